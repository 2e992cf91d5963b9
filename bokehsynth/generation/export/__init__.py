"""A data set in other forms: `run` goes over its shards, `folders`, `parquet` and `mds` write one each."""
