"""Learning from web images and videos beside a labelled target set (OmniSource). `tenclip omni` runs it.

Reading order::

    homographies      3x3 matrices in coordinates of [-1, 1], what makes one plausible, the Gaussian of their entries
    camera_motion     two frames -> the homography between them (features, robust matching)
    fit_motion        videos -> the Gaussian by maximum likelihood, for all classes and class by class
    pseudo_clips      image -> clip: replicated, translated, or warped as if a camera moved

Duan et al., "Omni-sourced Webly-supervised Learning for Video Recognition", sections 3.3 and 3.5. The paper names
these steps and leaves most constants open; modules say what was chosen.
"""
