package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	ch "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/column"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/forebay/forebay/offline"
)

// client speaks to the server, over either protocol.
type client struct {
	conn     driver.Conn
	addr     string // for errors: no credentials
	database string
}

func connect(raw string) (*client, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("offline url: it does not parse") // the message would hold the password
	}
	switch u.Scheme {
	case "clickhouse", "tcp", "http", "https":
	default:
		return nil, fmt.Errorf("offline url: unknown scheme %q; want clickhouse://host:9000/database, or http:// or https://", u.Scheme)
	}
	if q := u.Query(); u.Scheme == "https" && !q.Has("secure") {
		q.Set("secure", "true")
		u.RawQuery = q.Encode()
	}
	o, err := ch.ParseDSN(u.String())
	if err != nil {
		return nil, fmt.Errorf("offline url %s: %w", u.Redacted(), err)
	}
	c := &client{addr: u.Scheme + "://" + strings.Join(o.Addr, ","), database: o.Auth.Database}
	if c.database == "" {
		c.database = "default"
	}
	o.Auth.Database = "" // it may have to be made first; tables are named with it
	if o.Compression == nil {
		o.Compression = &ch.Compression{Method: ch.CompressionLZ4}
	}
	// An insert has happened when it returns.
	o.Settings["async_insert"] = 0
	if c.conn, err = ch.Open(o); err != nil {
		return nil, fmt.Errorf("offline url %s: %w", u.Redacted(), err)
	}
	return c, nil
}

// table is a table's name as SQL takes it.
func (c *client) table(name string) string { return ident(c.database) + "." + ident(name) }

// ident quotes an identifier.
func ident(name string) string {
	return "`" + strings.NewReplacer(`\`, `\\`, "`", "\\`").Replace(name) + "`"
}

// text quotes a string.
func text(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\x00", `\0`).Replace(s) + "'"
}

// Codes of exceptions of the server.
const (
	codeUnknownTable    = 60
	codeUnknownDatabase = 81
)

// failed says what an error of the driver means: the server's own word, or that it cannot be reached.
func (c *client) failed(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%w (%w)", context.Cause(ctx), err)
	}
	var exception *ch.Exception
	if errors.As(err, &exception) {
		switch exception.Code {
		case 3, 159, 202, 209, 210, 225, 242, 279, 319, 425, 439, 999: // it is there, and cannot work
			return fmt.Errorf("%w: %s: %w", offline.ErrUnavailable, c.addr, err)
		}
		return fmt.Errorf("%s: %w", c.addr, err)
	}
	var mistake *ch.OpError
	if errors.As(err, &mistake) {
		return fmt.Errorf("%s: %w", c.addr, err)
	}
	return fmt.Errorf("%w: %s: %w", offline.ErrUnavailable, c.addr, err)
}

// noTable reports whether a query failed because its table or database does not exist.
func noTable(err error) bool {
	var exception *ch.Exception
	return errors.As(err, &exception) && (exception.Code == codeUnknownTable || exception.Code == codeUnknownDatabase)
}

func (c *client) exec(ctx context.Context, query string) error {
	return c.failed(ctx, c.conn.Exec(ctx, query))
}

// each runs a query and calls each after every row is in dest.
func (c *client) each(ctx context.Context, query string, dest []any, each func() error) (err error) {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	ctx, cancel := context.WithCancel(ctx) // a query that is left is ended
	defer cancel()
	rows, err := c.conn.Query(ctx, query)
	if err != nil {
		return c.failed(ctx, err)
	}
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			cancel()
			_ = rows.Close()
			return c.failed(context.WithoutCancel(ctx), err)
		}
		if err := each(); err != nil {
			cancel()
			_ = rows.Close()
			return err
		}
	}
	return c.failed(ctx, errors.Join(rows.Err(), rows.Close()))
}

// one reads the only row of a query; false if there is none, or no table.
func (c *client) one(ctx context.Context, query string, dest ...any) (bool, error) {
	found := false
	err := c.each(ctx, query, dest, func() error { found = true; return nil })
	if noTable(err) {
		return false, nil
	}
	return found, err
}

// tableColumn is a column of a table: its name, its type in ClickHouse, and what is said of it there.
type tableColumn struct{ name, kind, comment string }

func names(cs []tableColumn) string {
	quoted := make([]string, len(cs))
	for i, c := range cs {
		quoted[i] = ident(c.name)
	}
	return strings.Join(quoted, ", ")
}

// insert sends one block. fill appends to its columns, all the same number of rows. Of two inserts with one
// token into one table the second does nothing; "" is none.
func (c *client) insert(ctx context.Context, table string, cs []tableColumn, token string, fill func(driver.Batch) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	types := make([]ch.ColumnNameAndType, len(cs))
	for i, col := range cs {
		types[i] = ch.ColumnNameAndType{Name: col.name, Type: col.kind}
	}
	opts := []ch.QueryOption{ch.WithColumnNamesAndTypes(types)}
	if token != "" {
		opts = append(opts, ch.WithSettings(ch.Settings{"insert_deduplicate": 1, "insert_deduplication_token": token}))
	}
	with := ch.Context(ctx, opts...)
	b, err := c.conn.PrepareBatch(with, "INSERT INTO "+table+" ("+names(cs)+")")
	if err != nil {
		return c.failed(ctx, err)
	}
	if err := fill(b); err != nil {
		return errors.Join(err, b.Abort())
	}
	// The driver sends nothing, and says nothing, if columns differ in length.
	for i, col := range b.Columns() {
		if col.Rows() != b.Rows() || columnShort(col) {
			return errors.Join(fmt.Errorf("table %s: column %q of an insert has %d rows of %d", table, cs[i].name, col.Rows(), b.Rows()), b.Abort())
		}
	}
	return c.failed(ctx, b.Send())
}

// columnShort reports whether a nullable column has marks of nulls for more or fewer rows than it has values.
func columnShort(col column.Interface) bool {
	n, ok := col.(*column.Nullable)
	return ok && n.Base().Rows() != n.Rows()
}

// create makes a table unless it exists, and checks that it has the columns, of their types. With
// add it adds those that are missing.
func (c *client) create(ctx context.Context, name string, cs []tableColumn, engine string, add bool) error {
	return c.createAs(ctx, name, cs, cs, engine, add)
}

// createAs is create with definitions that say more than the types of the columns.
func (c *client) createAs(ctx context.Context, name string, cs, definitions []tableColumn, engine string, add bool) error {
	have := map[string]string{}
	read := func() error {
		var col, kind string
		return c.each(ctx, "SELECT name, type FROM system.columns WHERE database = "+text(c.database)+" AND table = "+text(name), []any{&col, &kind},
			func() error { have[col] = kind; return nil })
	}
	if err := read(); err != nil {
		return err
	}
	define := func(col tableColumn) string {
		d := ident(col.name) + " " + col.kind
		if col.comment != "" {
			d += " COMMENT " + text(col.comment)
		}
		return d
	}
	if len(have) == 0 {
		var n uint64
		if _, err := c.one(ctx, "SELECT count() FROM system.databases WHERE name = "+text(c.database), &n); err != nil {
			return err
		}
		if n == 0 {
			if err := c.exec(ctx, "CREATE DATABASE IF NOT EXISTS "+ident(c.database)); err != nil {
				return err
			}
		}
		defs := make([]string, len(definitions))
		for i, col := range definitions {
			defs[i] = define(col)
		}
		if err := c.exec(ctx, "CREATE TABLE IF NOT EXISTS "+c.table(name)+" ("+strings.Join(defs, ", ")+") ENGINE = "+engine); err != nil {
			return err
		}
		if err := read(); err != nil { // somebody else may have made it, from another definition
			return err
		}
	}
	for _, col := range cs {
		switch kind, ok := have[col.name]; {
		case !ok && !add:
			return fmt.Errorf("%s: table %s has no column %q: it was made from another definition", c.addr, c.table(name), col.name)
		case !ok:
			if err := c.exec(ctx, "ALTER TABLE "+c.table(name)+" ADD COLUMN IF NOT EXISTS "+define(col)); err != nil {
				return err
			}
		case kind != col.kind:
			return fmt.Errorf("%s: table %s: column %q is %s there and %s here; a column keeps its type", c.addr, c.table(name), col.name, kind, col.kind)
		}
	}
	return nil
}
