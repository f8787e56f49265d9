// Package plainhttp serves the requests that a lookup service mostly gets, and leaves
// all others to net/http.
//
// A [Front] accepts connections. As long as what comes over one are plain requests for
// one of a few targets (HTTP/1.1, a body with a Content-Length, a header that fits
// a few KiB and holds nothing that changes how a message is read), it reads them and calls the
// same http.Handler that net/http would. The first request on a connection that is anything else, well-formed or
// not, is not touched: the connection goes to net/http with every byte of it, and stays there. So
// nothing of HTTP is left out or decided twice; there is only less work for what is plain: no
// goroutine that watches the connection, no header parsed again that is the one before, one
// write for an answer.
//
//	accept ──▶ head plain? ──yes──▶ handler ──▶ answer ──┐
//	               │ no       ▲                          │
//	               ▼          └──────── next request ────┘
//	     net/http, for good (Rest)
//
// Shutdown lets both kinds of connections end well: what is idle has DrainGrace in which a request that was on its
// way is answered, and told that it is the last.
//
// What differs from net/http: a request's context does not end when its client goes away, only with
// the server; an answer cannot be streamed.
package plainhttp
