// Package pages writes Parquet files from vectors: what a column holds for a run
// of rows goes to a page as it lies in memory, without a step through single values.
//
//	PAR1  row group…  column indexes  offset indexes  footer  PAR1
//	row group = one chunk a leaf; chunk = [dictionary page] data page…
//	data page = header  repetition levels  definition levels  values
//
// Data pages are of version 2, with a CRC; values are PLAIN, or of a dictionary
// where the schema asks for one, compressed with Snappy where that makes them smaller and
// as they are where it does not (format: parquet.apache.org/docs/file-format).
package pages
