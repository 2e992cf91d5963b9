"""A data set in other forms: `run` goes over its shards, `folders` and `parquet` write one each."""
