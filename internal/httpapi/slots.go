package httpapi

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/forebay/forebay/internal/api"
)

// At most MaxConcurrent lookups and pushes are answered at a time, and the others refused at once: a queue would only make all
// of them late. Who is slow to send or to read must not keep others from being answered, so that a slot is taken
// once the body is there, and given back before the answer is sent. What is large and waits for a client takes memory
// meanwhile: of that there are as many at a time again.

// smallMessage is the greatest body or answer that needs no slot while a client sends or reads it.
const smallMessage = 64 << 10

// enter takes a slot for what st is of, until leave; giveBack leaves too.
func (s *Server) enter(st *lookupState) error {
	select {
	case s.slots <- struct{}{}:
		st.entered = true
		return nil
	default:
		return s.overloaded()
	}
}

func (s *Server) leave(st *lookupState) {
	if st.entered {
		st.entered = false
		<-s.slots
	}
}

func (s *Server) overloaded() error {
	return failed(http.StatusServiceUnavailable, api.CodeOverloaded, "%d requests are being answered already; try again", s.cfg.MaxConcurrent)
}

// enterLarge makes room for a message of n bytes, -1 where that is not known, until the caller calls leave.
func (s *Server) enterLarge(n int64) (leave func(), err error) {
	if n >= 0 && n <= smallMessage {
		return func() {}, nil
	}
	select {
	case s.large <- struct{}{}:
		return func() { <-s.large }, nil
	default:
		return nil, s.overloaded()
	}
}

// bounded makes room for the bodies of requests.
func (s *Server) bounded(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		leave, err := s.enterLarge(c.Request().ContentLength)
		if err != nil {
			return err
		}
		defer leave()
		return next(c)
	}
}
