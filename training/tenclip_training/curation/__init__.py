"""Choosing and cleaning data: subsets, merged datasets, near-duplicates, corrupt videos. Nothing here imports torch.

Reading order::

    manifests       read labelled videos without splitting them; write a manifest that reads back as it was meant
    ranks, budgets  the seeded order of videos that makes subsets nested; how many videos of a class fit a budget
    durations       the seconds of every video
    subsets         random, tail-preserving, class and instance subsets, sets of short and long videos
    merging         union of label spaces
    video_sets      the videos of a folder, list or file
    killable        work on many videos in processes that may crash or hang
    census          64-bit codes of frames
    frame_codes     video -> codes at 16 frames a second
    video_store     what was computed of many videos, in Parquet, resumable
    code_store      codes of many videos, in such files
    candidates      pairs of videos that may match, by locality-sensitive hashing
    matching        exact comparison of two videos
    duplicates      all of it: sets of videos -> pairs that match
    reviewed        pairs that a person has looked at
    report          an HTML page with matched frames side by side
    scan            which videos are corrupt, in a ledger

Subsets, duration sets and de-duplication are those of Ghadiyaram et al., "Large-scale weakly-supervised pre-training
for video action recognition" (IG-65M), sections 4.1.1 and 4.3.1 and appendix A.2; class and instance subsets and merged
datasets those of Kataoka et al., "Would Mega-scale Datasets Further Enhance Spatiotemporal 3D CNNs?", sections 4.2
and 4.3.
"""
