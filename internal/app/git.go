package app

import (
	"context"
	"os"
	"os/exec"
	"os/user"
	"strings"
)

// git runs a Git command in dir and returns what it printed, without the last
// newline; "" if there is no Git, no repository or no answer.
func git(ctx context.Context, dir string, args ...string) string {
	out, err := exec.CommandContext(ctx, "git", append([]string{"-C", dir}, args...)...).Output()
	if err != nil {
		return ""
	}
	return strings.TrimRight(string(out), "\n")
}

// gitCommit is the commit that the folder's files are from, with "-dirty"
// appended where some of them differ from it; "" outside of a Git repository.
func gitCommit(ctx context.Context, dir string) string {
	commit := git(ctx, dir, "rev-parse", "--verify", "HEAD")
	if commit != "" && git(ctx, dir, "status", "--porcelain", "--", ".") != "" {
		commit += "-dirty"
	}
	return commit
}

// author is who applies: Git's user.name and user.email, else the operating
// system's user.
func author(ctx context.Context, dir string) string {
	name, email := git(ctx, dir, "config", "user.name"), git(ctx, dir, "config", "user.email")
	switch {
	case name != "" && email != "":
		return name + " <" + email + ">"
	case name != "" || email != "":
		return name + email
	}
	if name := os.Getenv("USER"); name != "" {
		return name
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return ""
}
