package sdk

import (
	"context"
	"errors"
	"sync"

	"github.com/forebay/forebay/internal/app"
)

// Open opens a feature repository in process, without a server: the folder that
// holds forebay.yaml, or one below it. The stores are those of the environment;
// embedded ones belong to one process at a time, and are used through the
// process that holds them if there is one (serve, stream, dev). A newly applied
// revision is taken up within a second or so.
//
// The options that it takes are Environment, WithTimeout and WithLogger.
func Open(dir string, opts ...Option) (Store, error) {
	o, err := newOptions(opts)
	if err != nil {
		return nil, err
	}
	if o.apiKey != "" || o.transport != nil {
		return nil, errors.New("sdk: WithAPIKey and WithTransport are options of New: in process there is no server")
	}
	ctx := context.Background()
	a, err := app.Open(ctx, app.Options{Dir: dir, Environment: o.environment, Command: "sdk", Log: o.log})
	if err != nil {
		return nil, err
	}
	handler, err := a.Handler(ctx)
	if err != nil {
		return nil, errors.Join(err, a.Close())
	}
	o.transport = handlerTransport{handler}
	c := newClient("http://in-process", o)
	c.close = sync.OnceValue(a.Close)
	return c, nil
}
