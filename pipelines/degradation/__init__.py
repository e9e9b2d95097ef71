"""How examples and training pictures are spoilt: `real_world` is a random chain of blur
(`random_blur`), resizing, noise and JPEG, `masks` hides pixels. Known degradations: `operators`."""
