"""Pictures with many details, and drawings of one shape, with their thumbnails as a deep scan compares them."""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from recog.doctor.traits import COLOUR_PX, THUMBNAIL_PX


def picture(seed, size=(200, 150)):
    """Smooth blobs with edges: noise, blurred and stretched over all levels."""
    pixels = np.random.default_rng(seed).integers(0, 256, size[::-1], dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(6)), dtype=np.float64)
    scaled = (smooth - smooth.min()) / np.ptp(smooth)
    return Image.fromarray(np.uint8(255 * (scaled > 0.5) * 0.7 + 76 * scaled))


def drawing(shape, radius, centre, colour="black", ground="white", size=128):
    """A disc, a square or a triangle on a plain ground."""
    x, y = centre
    image = Image.new("RGB", (size, size), ground)
    draw = ImageDraw.Draw(image)
    box = (x - radius, y - radius, x + radius, y + radius)
    if shape == "disc":
        draw.ellipse(box, fill=colour)
    elif shape == "square":
        draw.rectangle(box, fill=colour)
    else:
        draw.polygon([(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)], fill=colour)
    return image


def thumbnail(image):
    return np.asarray(image.convert("L").resize((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.BOX))


def colours(image):
    return np.asarray(image.convert("RGB").resize((COLOUR_PX, COLOUR_PX), Image.Resampling.BOX))
