package canonical

import (
	"bytes"
	"testing"
)

func TestAppend(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{` { "b" : [ 1 , -2 , 0 ] , "a" : { } } `, `{"a":{},"b":[1,-2,0]}`},
		{`{"b":null,"a":[null],"B":true,"aa":false}`, `{"B":true,"a":[null],"aa":false}`},
		{`{"a":null}`, `{}`},
		{`"\u003c\u0026\/\u00e9\u2028\b\f\n\u0000\ud83d\ude00"`, "\"<&/é\u2028" + `\u0008\u000c\n\u0000` + "😀\""},
		{`9223372036854775807`, `9223372036854775807`},
		{`[]`, `[]`},
	} {
		got, err := Append(nil, []byte(c.in))
		if err != nil || string(got) != c.want {
			t.Errorf("%s is %s, %v; want %s", c.in, got, err, c.want)
		}
		again, err := Append(nil, got)
		if err != nil || !bytes.Equal(got, again) {
			t.Errorf("%s is %s the second time, %v", got, again, err)
		}
	}
	for _, in := range []string{``, `1.5`, `1e3`, `{"a":`, `9223372036854775808`} {
		if got, err := Append(nil, []byte(in)); err == nil {
			t.Errorf("%s is %s", in, got)
		}
	}
}

func TestMarshal(t *testing.T) {
	got, err := Marshal(struct {
		Z string   `json:"z"`
		A []string `json:"a"`
		N *int     `json:"n"`
	}{Z: "<&>"})
	if want := `{"z":"<&>"}`; err != nil || string(got) != want {
		t.Errorf("got %s, %v; want %s", got, err, want)
	}
	if got, err := Marshal(1.5); err == nil {
		t.Errorf("a fraction is %s", got)
	}
}

func FuzzAppend(f *testing.F) {
	f.Add([]byte(`{"b":[1,"x\u0000"],"a":null}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		once, err := Append(nil, in)
		if err != nil {
			return
		}
		twice, err := Append(nil, once)
		if err != nil || !bytes.Equal(once, twice) {
			t.Errorf("%s is %s and then %s, %v", in, once, twice, err)
		}
	})
}
