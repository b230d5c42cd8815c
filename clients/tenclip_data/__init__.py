"""Which videos there are and what they show: folders, lists and tables of videos with labels and splits.

No decoding and no network here; pyarrow is imported only to read Parquet. Reading order::

    manifest           read_manifest: source -> Manifest (samples, label space, warnings)
    names              read_video_names: the videos of a list, for commands that need no labels
    formats            which format a source is in
    scan, folders      class folders and split folders
    lists              `path label` and `path start end label`; published_lists: UCF-101, HMDB-51
    tables, table_rows CSV and Parquet; published_tables: Kinetics, EPIC-KITCHENS-100; json_lists: Something-Something
    paths, text, cells from names to files, from bytes to text, from cells to labels and seconds
    labels, splits     label spaces and class files; what is held out
    checks, leaks      what is refused, and videos that are in two splits
"""
