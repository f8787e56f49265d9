package files

import "encoding/binary"

// int96Micros turns timestamps of Parquet's INT96 (8 bytes of nanoseconds of the
// day, 4 of the Julian day number, little-endian) into microseconds since the Unix
// epoch, floored.
func int96Micros(fixed []byte) []byte {
	const unixEpoch = 2440588 // the Julian day number of 1970-01-01
	out := make([]byte, 0, len(fixed)/12*8)
	for i := 0; i < len(fixed); i += 12 {
		nanos := int64(binary.LittleEndian.Uint64(fixed[i:])) //nolint:gosec // two's complement
		day := int64(int32(binary.LittleEndian.Uint32(fixed[i+8:]))) - unixEpoch
		micros := day*86400e6 + nanos/1000
		out = binary.LittleEndian.AppendUint64(out, uint64(micros)) //nolint:gosec // two's complement
	}
	return out
}
