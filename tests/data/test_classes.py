from kapp.data.classes import agree, numbered


def test_numbers_in_their_own_order_stand_for_any_names():
    assert numbered(("0", "1", "2"))
    assert not numbered(("dark", "1"))
    assert not numbered(("0", "1", "10", "2"))  # names that are numbers: a folder's, in the order of text
    assert agree(("0", "1"), ["cat", "dog"])
    assert agree(("cat", "dog"), ("0", "1"))


def test_names_must_be_the_same_in_the_same_order():
    assert agree(("cat", "dog"), ["cat", "dog"])
    assert not agree(("cat", "dog"), ("dog", "cat"))
    assert not agree(("cat", "dog", "owl"), ("0", "1"))
    assert not agree([str(i) for i in range(11)], sorted(str(i) for i in range(11))[::-1])
