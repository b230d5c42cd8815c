"""Learning from web images and videos beside a labelled target set (OmniSource). `tenclip omni` runs it.

Reading order::

    homographies      3x3 matrices in coordinates of [-1, 1], what makes one plausible, the Gaussian of their entries
    camera_motion     two frames -> the homography between them (features, robust matching)
    fit_motion        videos -> the Gaussian by maximum likelihood, for all classes and class by class
    motion            the file that holds it
    pseudo_clips      image -> clip: replicated, translated, or warped as if a camera moved
    preview           a picture of such clips
    stills_config     what a training run does with images: its settings
    stills            images among the samples of a training run
    networks          networks that look at single frames, on the server's runtimes
    frame_features    features of frames of videos and images, in Parquet
    whitening         whitened cosine similarity
    cosine_duplicates all of it: sets of features -> pairs that are alike, and the threshold
    duplicate_report  an HTML page with matched frames side by side
    web_files         rows of a manifest with the labels and sources that they came with
    teachers          networks that judge web data, on the server's runtimes; several answer as one
    teacher_clips     what a teacher sees of a file
    rows_file         that, where it is more than memory should hold
    score_store       its scores of files and of frames, in Parquet
    teacher_filter    pseudo-labels, confidences and the threshold of each source, as arithmetic
    filter_files      all of it: web data -> what is kept
    filter_report     an HTML page with classes before and after, and pictures of what is kept and rejected
    mixes             sets of equal size, of one source and of several
    untrimmed         positive and negative frames, pieces of 10 seconds, as arithmetic
    untrimmed_files   untrimmed videos -> rows of a manifest

Duan et al., "Omni-sourced Webly-supervised Learning for Video Recognition", sections 3.3 to 3.5. The paper names
these steps and leaves most constants open; modules say what was chosen.
"""
