package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/forebay/forebay/registry/nearest"
	"github.com/forebay/forebay/registry/spec"
)

// Options is what Load needs to know beside the environment.
type Options struct {
	Root    string    // of the repository, absolute
	Project string    // its name
	Lookup  LookupEnv // os.LookupEnv, outside tests; nil leaves out what needs variables or files, see Check
}

// Load makes an environment ready for use. It reads the files that references
// name, and opens and makes nothing. All mistakes come together, as an error that
// joins an *Error each.
func Load(declared spec.Environment, o Options) (*Environment, error) {
	l := &loader{
		expander: expander{root: o.Root, lookup: o.Lookup},
		declared: declared,
		local:    declared.Name == Local,
	}
	e := &Environment{
		Name:        declared.Name,
		Root:        o.Root,
		Registry:    l.registry(),
		Offline:     l.offline(),
		Online:      l.online(),
		Stream:      l.stream("forebay-" + o.Project + "-" + declared.Name),
		Generations: l.generations(),
		Server:      l.server(),
		Quarantine:  filepath.Join(o.Root, ".forebay", "quarantine"),
	}
	if err := errors.Join(l.mistakes...); err != nil {
		return nil, err
	}
	return e, nil
}

// Check finds the mistakes that can be found in environments without the variables
// and files that they refer to, which only the machine they are for has.
func Check(declared []spec.Environment, root, project string) spec.Diagnostics {
	var found spec.Diagnostics
	for _, e := range declared {
		_, err := Load(e, Options{Root: root, Project: project})
		found = append(found, Diagnostics(err)...)
	}
	return found
}

// Diagnostics are the mistakes in an error of Load.
func Diagnostics(err error) spec.Diagnostics {
	var one *Error
	var all interface{ Unwrap() []error }
	switch {
	case errors.As(err, &all):
		var ds spec.Diagnostics
		for _, e := range all.Unwrap() {
			ds = append(ds, Diagnostics(e)...)
		}
		return ds
	case errors.As(err, &one):
		return spec.Diagnostics{{Code: spec.BadSetting, Position: one.Position, Message: one.Field + ": " + one.Msg}}
	}
	return nil
}

// loader collects the mistakes of one environment.
type loader struct {
	expander
	declared spec.Environment
	local    bool // may have defaults
	mistakes []error
}

// inYAML makes a field of a list, addrs[1], what spec calls it: addrs.1.
var inYAML = strings.NewReplacer("[", ".", "]", "")

func (l *loader) mistake(field, format string, args ...any) {
	l.mistakes = append(l.mistakes, &Error{
		Position: l.declared.Position(inYAML.Replace(field)),
		Field:    "environments." + l.declared.Name + "." + field,
		Msg:      fmt.Sprintf(format, args...),
	})
}

// text is a value with its references replaced; ok is false if that failed.
func (l *loader) text(field, raw string) (value string, ok bool) {
	if l.lookup == nil && strings.Contains(raw, "${") {
		return "", false
	}
	value, err := l.expand(raw)
	if err != nil {
		l.mistake(field, "%v", err)
		return "", false
	}
	return value, true
}

// choice is a value that must be one of some names.
func (l *loader) choice(field, raw string, names ...string) string {
	value, ok := l.text(field, raw)
	if !ok || slices.Contains(names, value) {
		return value
	}
	if value == "" {
		l.mistake(field, "missing: it is one of %s", strings.Join(names, ", "))
		return ""
	}
	hint := ""
	if h := nearest.Hint(value, names); h != "" {
		hint = "; " + h
	}
	l.mistake(field, "%q is not one of %s%s", raw, strings.Join(names, ", "), hint)
	return ""
}

// path is the path of a folder or file, made absolute.
func (l *loader) path(field, raw string) string {
	value, ok := l.text(field, raw)
	switch {
	case !ok:
		return ""
	case strings.Contains(value, "://"):
		l.mistake(field, "%q is a URL: it must be a path", raw)
		return ""
	case value == "":
		l.mistake(field, "missing: it is a path")
		return ""
	}
	return l.absolute(value)
}

func (l *loader) absolute(path string) string {
	path = filepath.FromSlash(path)
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(l.root, path)
}

// url is a URL of one of some schemes; file URLs are made absolute.
func (l *loader) url(field, raw string, schemes ...string) URL {
	value, ok := l.text(field, raw)
	if !ok {
		return ""
	}
	takes := strings.Join(schemes, "://, ") + "://"
	if value == "" {
		l.mistake(field, "missing: it is a URL that starts with one of %s", takes)
		return ""
	}
	u, err := url.Parse(value)
	if err != nil {
		var parse *url.Error
		if errors.As(err, &parse) {
			err = parse.Err // the whole message has the value, with what references stand for
		}
		if raw != value {
			err = errors.New("it does not parse")
		}
		l.mistake(field, "%q is not a URL: %v", raw, err)
		return ""
	}
	if !slices.Contains(schemes, u.Scheme) {
		hint := ""
		if u.Scheme == "" {
			hint = "; a folder is written file://./folder"
			if !slices.Contains(schemes, "file") {
				hint = ""
			}
		}
		l.mistake(field, "%q does not start with one of %s%s", raw, takes, hint)
		return ""
	}
	if u.Scheme != "file" {
		if u.Host == "" && u.Scheme != "mem" {
			l.mistake(field, "%q names no host or bucket", raw)
			return ""
		}
		return URL(value)
	}
	path := u.Path
	switch u.Host {
	case "", "localhost":
	case ".", "..": // file://./folder and file://../folder: the URL's first element is its host
		path = u.Host + path
	default:
		l.mistake(field, "%q names the host %q: a folder of the repository is written file://./folder, an absolute one file:///folder", raw, u.Host)
		return ""
	}
	if path == "" || path == "/" || u.Opaque != "" {
		l.mistake(field, "%q names no folder", raw)
		return ""
	}
	absolute := url.URL{Scheme: "file", Path: filepath.ToSlash(l.absolute(path)), RawQuery: u.RawQuery}
	return URL(absolute.String())
}

// address is a host:port.
func (l *loader) address(field, raw string) (string, bool) {
	value, ok := l.text(field, raw)
	if !ok {
		return "", false
	}
	host, port, err := net.SplitHostPort(value)
	if err == nil {
		var n uint64
		if n, err = strconv.ParseUint(port, 10, 16); err == nil && n > 0 && host != "" && !strings.ContainsAny(host, "/@ \t\r\n") {
			return value, true
		}
	}
	l.mistake(field, "%q is not host:port, such as redis.example.com:6379", raw)
	return "", false
}

// addresses is a list of host:port, of at least one.
func (l *loader) addresses(field string, raws []string) []string {
	if len(raws) == 0 {
		l.mistake(field, "missing: it is a list of host:port")
	}
	var found []string
	for i, raw := range raws {
		if a, ok := l.address(fmt.Sprintf("%s[%d]", field, i), raw); ok {
			found = append(found, a)
		}
	}
	return found
}

// tls is how a connection is encrypted.
func (l *loader) tls(field string, d spec.TLS) TLS {
	t := TLS{Enabled: d.Enabled, InsecureSkipVerify: d.InsecureSkipVerify}
	for _, file := range []struct {
		name, raw string
		to        *string
	}{{".ca", d.CA, &t.CA}, {".cert", d.Cert, &t.Cert}, {".key", d.Key, &t.Key}} {
		if file.raw != "" {
			*file.to = l.path(field+file.name, file.raw)
		}
	}
	if (d.Cert == "") != (d.Key == "") {
		l.mistake(field, "cert and key go together: one of them is missing")
	}
	return t
}

// unused reports settings that another setting makes meaningless: nothing that
// somebody wrote is passed over in silence.
func (l *loader) unused(section, because string, set map[string]bool, order ...string) {
	for _, name := range order {
		if set[name] {
			l.mistake(section+"."+name, "is of no use %s: remove it", because)
		}
	}
}

// secret is a value that is kept from sight.
func (l *loader) secret(field, raw string) Secret {
	value, _ := l.text(field, raw)
	return Secret(value)
}
