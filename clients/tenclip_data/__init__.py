"""Which videos there are and what they show: folders, lists and tables of videos with labels and splits.

No decoding and no network here; pyarrow is imported only to read Parquet.
"""
