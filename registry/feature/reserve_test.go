package feature

import "testing"

func TestReserve(t *testing.T) {
	cols := []*Column{NewColumn("a", TypeFloat64, 0), NewColumn("s", TypeString, 0), NewColumn("b", TypeInt64, 100), NewColumn("c", TypeBool, 1)}
	kept := cols[2].Nums[:1]
	Reserve(cols, 20)
	for row := range 30 { // more than there is room for
		cols[0].AppendBits(uint64(row))
		cols[1].AppendBytes([]byte{byte(row)})
		cols[2].AppendBits(uint64(100 + row))
		cols[3].AppendBits(uint64(row % 2))
	}
	for row := range 30 {
		if a, b, c := cols[0].Nums[row], cols[2].Nums[row], cols[3].Nums[row]; a != uint64(row) || b != uint64(100+row) || c != uint64(row%2) {
			t.Fatalf("row %d: %d %d %d", row, a, b, c)
		}
	}
	if &kept[0] != &cols[2].Nums[0] {
		t.Error("a column that had room was given other memory")
	}
}
