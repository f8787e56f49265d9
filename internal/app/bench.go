package app

import (
	"context"
	"errors"
	"fmt"

	"github.com/forebay/forebay/internal/config"
	"github.com/forebay/forebay/offline/files"
	"github.com/forebay/forebay/online/redis"
	"github.com/forebay/forebay/registry/feature"
	"github.com/forebay/forebay/registry/selection"
)

// Project is the name of the repository's project.
func (a *App) Project() string { return a.project }

// OnlineSettings are those of the environment's online store.
func (a *App) OnlineSettings() config.Online { return a.env.Online }

// ServerSettings are those of the environment's HTTP server.
func (a *App) ServerSettings() config.Server { return a.env.Server }

// RedisRecords matches the keys of the records of a view's generation in Redis, of
// all views where view is "", as SCAN takes it.
func RedisRecords(project, view string, generation int) string {
	return redis.RecordPattern(project, view, generation)
}

// RedisProject matches all keys of a project in Redis.
func RedisProject(project string) string { return redis.ProjectPattern(project) }

// Entities reads at most limit entities from a spine file: the keys and request
// fields that a lookup of the selection needs, each as the JSON object that POST
// /v1/features takes.
func (a *App) Entities(ctx context.Context, req selection.Request, spine string, limit int) (entities [][]byte, outputs int, err error) {
	head, err := a.Head(ctx)
	if err != nil {
		return nil, 0, err
	}
	sel, err := selection.Resolve(ctx, head.Project, req, newGenerations(a.repo, head, nil).find)
	if err != nil {
		return nil, 0, err
	}
	file, err := files.At(spine)
	if err != nil {
		return nil, 0, fmt.Errorf("spine: %w", err)
	}
	fields := append(append([]feature.Field(nil), sel.Keys...), sel.Request...)
	want := make([]files.Want, len(fields))
	for i, f := range fields {
		want[i] = files.Want{Field: f, Use: "lookup"}
	}
	rows, err := files.OpenSpine(ctx, file, want)
	if err != nil {
		return nil, 0, spineError(err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for batch, err := range rows.Wanted(ctx) {
		if err != nil {
			return nil, 0, spineError(err)
		}
		for i := range batch.Rows {
			if len(entities) == limit {
				return entities, len(sel.Outputs), nil
			}
			entity := []byte{'{'}
			for j, f := range fields {
				if j > 0 {
					entity = append(entity, ',')
				}
				entity = append(feature.AppendStringJSON(entity, f.Name), ':')
				entity = batch.Columns[j].Value(i).AppendJSON(entity)
			}
			entities = append(entities, append(entity, '}'))
		}
	}
	if len(entities) == 0 {
		return nil, 0, &Error{Code: codeBadSpine, Err: fmt.Errorf("%s has no rows", spine)}
	}
	return entities, len(sel.Outputs), nil
}
