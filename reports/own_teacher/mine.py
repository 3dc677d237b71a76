"""Somebody's own classifier, mine.keras: plain Keras, 48x48 pixels from -1 to 1, softmax. Nothing of kapp.

It is trained on pictures/train alone: pictures/validation is for its students.
"""
import keras
from keras import layers

keras.utils.set_random_seed(0)


def pictures(part):
    found = keras.utils.image_dataset_from_directory(
        f"pictures/{part}", image_size=(48, 48), batch_size=64, label_mode="int", seed=0
    )
    return found.map(lambda images, labels: (images / 127.5 - 1, labels))


x = images = keras.Input((48, 48, 3))
x = layers.RandomFlip("horizontal")(x)
for filters, times in ((32, 2), (64, 2), (128, 2)):
    for _ in range(times):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization()(x)
        x = layers.Activation("relu")(x)
    x = layers.MaxPooling2D()(x)
x = layers.Dropout(0.3)(layers.GlobalAveragePooling2D()(x))
model = keras.Model(images, layers.Dense(10, activation="softmax")(x), name="mine")
train, test = pictures("train"), pictures("test")
rate = keras.optimizers.schedules.CosineDecay(2e-3, 12 * len(train))
model.compile(keras.optimizers.AdamW(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(train, epochs=12, verbose=2)
print(model.evaluate(test, verbose=0))
model.save("mine.keras")
