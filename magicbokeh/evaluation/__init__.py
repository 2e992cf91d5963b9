"""Methods compared on a data set: pictures, metrics with intervals, tables and a sheet (`magicbokeh evaluate`)."""
