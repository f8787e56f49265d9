package httpapi

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const timeout = 128 * time.Second
		front, stop := context.WithCancel(t.Context())
		defer stop()
		d := deadlines{timeout: timeout}
		own, end := d.begin(front) // there is no front yet
		end()
		if !errors.Is(own.Err(), context.Canceled) {
			t.Error(own.Err())
		}
		d.serve(front)
		begun := time.Now()
		first, end := d.begin(front)
		end()
		if first.Err() != nil {
			t.Error("a request that ends ends others")
		}
		time.Sleep(time.Second)
		second, _ := d.begin(front)
		time.Sleep(time.Second)
		third, _ := d.begin(front)
		if first != second || second == third {
			t.Error("shared by those within a second")
		}
		own, end = d.begin(context.WithValue(front, errPanic, 1)) // with a trace, say
		end()
		if until, _ := own.Deadline(); own.Err() == nil || !until.Equal(begun.Add(2*time.Second+timeout)) {
			t.Error(own.Err(), until)
		}
		<-first.Done()
		if took := time.Since(begun); took != timeout+time.Second || third.Err() != nil {
			t.Errorf("ended after %v; the later one: %v", took, third.Err())
		}
		stop()
		if !errors.Is(third.Err(), context.Canceled) {
			t.Error(third.Err())
		}
	})
}
