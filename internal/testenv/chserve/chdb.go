//go:build cgo

package main

// Binding to libchdb.so by dlopen: only the calls this server needs.

/*
#cgo LDFLAGS: -ldl
#include <dlfcn.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef void *cp;
static cp  *(*f_connect)(int, char **);
static void (*f_close)(cp *);
static cp   (*f_query)(cp, const char *, size_t, const char *, size_t, const char *const *, const size_t *, const char *const *, const size_t *, size_t);
static cp   (*f_stream)(cp, const char *, size_t, const char *, size_t, const char *const *, const size_t *, const char *const *, const size_t *, size_t);
static cp   (*f_fetch)(cp, cp);
static void (*f_cancel)(cp, cp);
static void (*f_destroy)(cp);
static char *(*f_buf)(cp);
static size_t (*f_len)(cp);
static double (*f_elapsed)(cp);
static uint64_t (*f_rr)(cp), (*f_br)(cp), (*f_srr)(cp), (*f_sbr)(cp), (*f_rw)(cp), (*f_bw)(cp);
static const char *(*f_err)(cp);
static void (*f_sig)(int);

static const char *ch_load(const char *path) {
	void *h = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!h) return dlerror();
#define S(v, n) if (!(v = dlsym(h, n))) return "missing symbol " n;
	S(f_connect, "chdb_connect") S(f_close, "chdb_close_conn")
	S(f_query, "chdb_query_with_params_n") S(f_stream, "chdb_stream_query_with_params_n")
	S(f_fetch, "chdb_stream_fetch_result") S(f_cancel, "chdb_stream_cancel_query")
	S(f_destroy, "chdb_destroy_query_result") S(f_buf, "chdb_result_buffer") S(f_len, "chdb_result_length")
	S(f_elapsed, "chdb_result_elapsed") S(f_rr, "chdb_result_rows_read") S(f_br, "chdb_result_bytes_read")
	S(f_srr, "chdb_result_storage_rows_read") S(f_sbr, "chdb_result_storage_bytes_read")
	S(f_rw, "chdb_result_rows_written") S(f_bw, "chdb_result_bytes_written")
	S(f_err, "chdb_result_error") S(f_sig, "chdb_set_signal_handlers_enabled")
	return 0;
}
// The library sets eight signals to SIG_DFL when told to keep its hands off them, and again at each connect: put Go's back.
static const int sigs[] = {SIGABRT, SIGSEGV, SIGILL, SIGBUS, SIGSYS, SIGFPE, SIGTSTP, SIGTRAP};
static cp ch_connect(int argc, char **argv) {
	struct sigaction old[8];
	for (int i = 0; i < 8; i++) sigaction(sigs[i], 0, &old[i]);
	f_sig(0);
	cp *c = f_connect(argc, argv);
	for (int i = 0; i < 8; i++) sigaction(sigs[i], &old[i], 0);
	return c;
}
static cp ch_query(cp *c, const char *q, size_t n, const char *f, size_t fn, char **pn, size_t *pnl, char **pv, size_t *pvl, size_t np) {
	return f_query(*c, q, n, f, fn, (const char *const *)pn, pnl, (const char *const *)pv, pvl, np);
}
static cp ch_stream(cp *c, const char *q, size_t n, const char *f, size_t fn, char **pn, size_t *pnl, char **pv, size_t *pvl, size_t np) {
	return f_stream(*c, q, n, f, fn, (const char *const *)pn, pnl, (const char *const *)pv, pvl, np);
}
static cp ch_fetch(cp *c, cp r) { return f_fetch(*c, r); }
static void ch_cancel(cp *c, cp r) { f_cancel(*c, r); }
static void ch_destroy(cp r) { f_destroy(r); }
static void ch_close(cp *c) { f_close(c); }
static const char *ch_err(cp r) { return f_err(r); }
static char *ch_buf(cp r) { return f_buf(r); }
static size_t ch_len(cp r) { return f_len(r); }
static double ch_elapsed(cp r) { return f_elapsed(r); }
static void ch_stats(cp r, uint64_t *o) { o[0]=f_rr(r); o[1]=f_br(r); o[2]=f_srr(r); o[3]=f_sbr(r); o[4]=f_rw(r); o[5]=f_bw(r); }
*/
import "C"

import (
	"errors"
	"unsafe"
)

type Stats struct{ ResRows, ResBytes, ReadRows, ReadBytes, WrittenRows, WrittenBytes uint64 }

type Conn struct {
	p  *C.cp
	db string // current USE
}

func loadLib(path string) error {
	s := C.CString(path)
	defer C.free(unsafe.Pointer(s))
	if e := C.ch_load(s); e != nil {
		return errors.New(C.GoString(e))
	}
	return nil
}

func connect(args ...string) (*Conn, error) {
	argv := (*[1 << 10]*C.char)(C.malloc(C.size_t(len(args)+1) * C.size_t(unsafe.Sizeof(uintptr(0)))))
	defer C.free(unsafe.Pointer(argv))
	for i, a := range args {
		argv[i] = C.CString(a)
		defer C.free(unsafe.Pointer(argv[i]))
	}
	argv[len(args)] = nil
	p := C.ch_connect(C.int(len(args)), (**C.char)(unsafe.Pointer(argv)))
	if p == nil {
		return nil, errors.New("chdb_connect failed")
	}
	return &Conn{p: (*C.cp)(p), db: "default"}, nil
}

func (c *Conn) Close() { C.ch_close(c.p) }

type Params [][2]string

// cparams copies the parameters to C memory; free releases them.
func (ps Params) c() (pn **C.char, pnl *C.size_t, pv **C.char, pvl *C.size_t, free func()) {
	n := len(ps)
	if n == 0 {
		return nil, nil, nil, nil, func() {}
	}
	w := C.size_t(n * 8)
	a, b, x, y := C.malloc(w), C.malloc(w), C.malloc(w), C.malloc(w)
	pn, pv, pnl, pvl = (**C.char)(a), (**C.char)(b), (*C.size_t)(x), (*C.size_t)(y)
	names, vals := unsafe.Slice(pn, n), unsafe.Slice(pv, n)
	nl, vl := unsafe.Slice(pnl, n), unsafe.Slice(pvl, n)
	for i, p := range ps {
		names[i], vals[i] = C.CString(p[0]), C.CString(p[1])
		nl[i], vl[i] = C.size_t(len(p[0])), C.size_t(len(p[1]))
	}
	return pn, pnl, pv, pvl, func() {
		for i := range names {
			C.free(unsafe.Pointer(names[i]))
			C.free(unsafe.Pointer(vals[i]))
		}
		C.free(a)
		C.free(b)
		C.free(x)
		C.free(y)
	}
}

type Result struct{ p C.cp }

func (r Result) Err() error {
	if e := C.ch_err(r.p); e != nil {
		return errors.New(C.GoString(e))
	}
	return nil
}

// Bytes is memory of the library, valid until Free.
func (r Result) Bytes() []byte {
	n := C.ch_len(r.p)
	if n == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(C.ch_buf(r.p))), int(n))
}
func (r Result) Elapsed() float64 { return float64(C.ch_elapsed(r.p)) }
func (r Result) Stats() (s Stats) {
	C.ch_stats(r.p, (*C.uint64_t)(unsafe.Pointer(&s)))
	return
}
func (r Result) Free() { C.ch_destroy(r.p) }

func cstr(s string) *C.char {
	if s == "" {
		s = "\x00"
	}
	return (*C.char)(unsafe.Pointer(unsafe.StringData(s)))
}

func (c *Conn) Query(q, format string, ps Params) Result {
	pn, pnl, pv, pvl, free := ps.c()
	defer free()
	return Result{C.ch_query(c.p, cstr(q), C.size_t(len(q)), cstr(format), C.size_t(len(format)), pn, pnl, pv, pvl, C.size_t(len(ps)))}
}

func (c *Conn) Stream(q, format string, ps Params) Result {
	pn, pnl, pv, pvl, free := ps.c()
	defer free()
	return Result{C.ch_stream(c.p, cstr(q), C.size_t(len(q)), cstr(format), C.size_t(len(format)), pn, pnl, pv, pvl, C.size_t(len(ps)))}
}
func (c *Conn) Fetch(s Result) Result { return Result{C.ch_fetch(c.p, s.p)} }
func (c *Conn) Cancel(s Result)       { C.ch_cancel(c.p, s.p) }
