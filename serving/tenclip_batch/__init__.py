"""The same extraction as through a server, in processes of its own: for folders of a hundred thousand videos.

::

    commands options      `tenclip batch features|predict`
    videos containers     what is worked on: files, URIs, members of tar shards, cells of Parquet
    shards remote         tar shards and Parquet at URLs: what is in them, and any part of them
    bundle settings       the model, and everything that the numbers depend on
    extractor             the core of the server, in this process
    worker                videos -> rows, several in flight, in parts
    dataset parts schema  the folder of Parquet files: ledger, lock, atomic parts
    attempts              marks of videos that are being worked on, so that one that ends its process is found out
    local ray_engine      who works: this process, or actors of Ray
    ray_decoders          other actors that decode for one with the model
"""
