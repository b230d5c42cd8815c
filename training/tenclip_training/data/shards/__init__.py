"""Videos in tar files (WebDataset shards), each found through an index, so that any of them is read by itself.

::

    FOLDER/
      index.parquet        a row for each sample: shard, offset, bytes, SHA-256, labels, split, part of the video
      labels.json          the classes, in the order of their numbers in .cls members
      train-000000.tar     00000000.cls  00000000.json  00000000.mp4  00000001.cls ...
      val-000000.tar
      failures.jsonl       videos that could not be read when the shards were written
"""
