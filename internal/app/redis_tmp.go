package app

import (
	"context"
	"errors"

	"github.com/forebay/forebay/online"
)

func (a *App) openRedis(ctx context.Context) (online.Store, error) { return nil, errors.New("redis") }
