package redis

import (
	"context"
	"fmt"
	"log/slog"

	goredis "github.com/redis/go-redis/v9"
)

// LogTo has the library's own log lines, which else go to stderr as they are, written
// to log at level Debug: what matters in them comes back as an error too. The library has one log for
// the whole process; the last call counts.
func LogTo(log *slog.Logger) { goredis.SetLogger(libraryLog{log}) }

type libraryLog struct{ log *slog.Logger }

func (l libraryLog) Printf(ctx context.Context, format string, args ...any) {
	if l.log.Enabled(ctx, slog.LevelDebug) {
		l.log.DebugContext(ctx, fmt.Sprintf(format, args...))
	}
}
