"""mine.keras as a teacher for images of 32x32 pixels from 0 to 255: step 2 of docs/own-teacher.md."""
import keras

mine = keras.models.load_model("mine.keras")
images = keras.Input((32, 32, 3))
x = keras.layers.Resizing(48, 48)(images)
x = keras.layers.Rescaling(1 / 127.5, offset=-1)(x)
keras.Model(images, mine(x)).save("teacher.keras")
