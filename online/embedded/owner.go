package embedded

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// HeldError says that another process has a folder open.
type HeldError struct {
	Dir     string
	PID     int    // 0 where it is not known (yet)
	Command string // what the process is, such as "forebay dev"
	Socket  string // where it serves others: unix:PATH or tcp:HOST:PORT; "" if it does not
}

func (e *HeldError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("online store %s is held by another process", e.Dir)
	}
	hint := "end it first"
	if e.Socket != "" {
		hint = "work through it, or end it first"
	}
	return fmt.Sprintf("online store %s is held by process %d (%s): %s", e.Dir, e.PID, e.Command, hint)
}

// ownerInfo is owner.json.
type ownerInfo struct {
	Version int    `json:"version"` // 1
	PID     int    `json:"pid"`
	Command string `json:"command"`
	Socket  string `json:"socket,omitempty"`
	Token   string `json:"token,omitempty"` // what a caller on Socket must show
}

// owner is a folder's lock, held.
type owner struct {
	dir  string
	lock *os.File
	info ownerInfo
}

// serve tells others where this process serves them; "" for nowhere.
func (o *owner) serve(socket, token string) error {
	o.info.Socket, o.info.Token = socket, token
	return o.publish()
}

func ownerPath(dir string) string { return filepath.Join(dir, "owner.json") }

// acquire locks a folder for this process. A *HeldError says who has it.
func acquire(dir, command string) (*owner, error) {
	f, err := os.OpenFile(filepath.Join(dir, "owner.lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := lockFile(f); err != nil {
		err = errors.Join(err, f.Close())
		if !errors.Is(err, errLocked) {
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		info, _ := readOwner(dir) // without it, still held
		return nil, &HeldError{Dir: dir, PID: info.PID, Command: info.Command, Socket: info.Socket}
	}
	o := &owner{dir: dir, lock: f, info: ownerInfo{Version: 1, PID: os.Getpid(), Command: command}}
	if err := o.publish(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return o, nil
}

// publish writes owner.json, for nobody's eyes but the user's: it holds the token.
func (o *owner) publish() error {
	b, err := json.Marshal(o.info)
	if err != nil {
		return err
	}
	return writeFile(ownerPath(o.dir), append(b, '\n'), 0o600)
}

// release gives the folder back.
func (o *owner) release() error {
	err := os.Remove(ownerPath(o.dir))
	if errors.Is(err, os.ErrNotExist) {
		err = nil // the folder was removed
	}
	// The lock file stays: to remove it would let two processes lock two files of one name.
	return errors.Join(err, o.lock.Close())
}

// readOwner reads who has a folder open, or had it when it ended without a word.
func readOwner(dir string) (info ownerInfo, err error) {
	b, err := os.ReadFile(ownerPath(dir))
	if err != nil {
		return info, err
	}
	if err := json.Unmarshal(b, &info); err != nil {
		return info, fmt.Errorf("%s: %w", ownerPath(dir), err)
	}
	if info.Version != 1 {
		return info, fmt.Errorf("%s: version %d, this program reads 1: it is owned by another release of Forebay", ownerPath(dir), info.Version)
	}
	return info, nil
}
