"""Traits of an image in which nothing is odd."""

import numpy as np

from recog.doctor.traits import Traits


def typical():
    return Traits(
        width=300,
        height=200,
        format="JPEG",
        num_bytes=30_000,
        jpeg_quality=90,
        brightness=0.5,
        contrast=0.2,
        sharpness=0.2,
        dark_share=0.1,
        bright_share=0.1,
        border_share=0.0,
        num_colours=25,
        thumbnail=np.zeros((64, 64), np.uint8),
        colours=np.zeros((32, 32, 3), np.uint8),
    )
