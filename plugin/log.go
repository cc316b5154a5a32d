package plugin

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"underlay-cni/conflist"
)

// LogTo has the request write its log as the configuration says: one line a verb, and one a change at
// debug. Without options, or where the file cannot be written, there is no log: it never fails a pod. A request that no
// runtime has made keeps none.
func (r *Request) LogTo(o *conflist.LogOptions) {
	if o == nil || r.log == nil {
		return
	}
	f, err := openLog(o)
	if err != nil {
		return
	}
	r.log = slog.New(slog.NewTextHandler(f, &slog.HandlerOptions{Level: o.Level})).With("verb", r.Verb,
		"network", r.Network, "container", r.ContainerID, "ifname", r.IfName)
}

// logVerb writes the line of the verb.
func (r *Request) logVerb(took time.Duration, err error) {
	level, attrs := slog.LevelInfo, []slog.Attr{slog.Duration("took", took), slog.String("netns", r.Netns), slog.String("args", r.Args)}
	if err != nil {
		level, attrs = slog.LevelError, append(attrs, slog.String("error", err.Error()))
	}
	r.log.LogAttrs(context.Background(), level, "done", attrs...)
}

// logChange writes the line of a change.
func logChange(l *slog.Logger, c Change, err error) {
	ctx := context.Background()
	if !l.Enabled(ctx, slog.LevelDebug) {
		return // a line costs more than the change
	}
	attrs := []slog.Attr{slog.String("line", firstLine(c))}
	if err != nil {
		attrs = append(attrs, slog.String("error", err.Error()))
	}
	l.LogAttrs(ctx, slog.LevelDebug, "change", attrs...)
}

// openLog opens the log file to append to, which many short processes do at the same time: each line is
// one write. (A pipe that nobody reads must not hold the pod up.) A file that has reached its size is put aside first.
func openLog(o *conflist.LogOptions) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(o.File), 0o750); err != nil {
		return nil, fmt.Errorf("make the log's directory: %w", err)
	}
	for range 2 {
		f, err := os.OpenFile(o.File, os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NONBLOCK, 0o600)
		if err != nil {
			return nil, fmt.Errorf("open the log: %w", err)
		}
		if !full(f, o) || !putAside(f, o) {
			return f, nil
		}
		_ = f.Close()
	}
	return nil, fmt.Errorf("open the log: %w", fs.ErrExist)
}

func full(f *os.File, o *conflist.LogOptions) bool {
	info, err := f.Stat()
	return err == nil && info.Size() >= int64(o.MaxSize)<<20
}

// putAside renames the log that is open as f, and prunes the old ones. It does nothing, and says so, if
// another process is at it; the cap is soft.
func putAside(f *os.File, o *conflist.LogOptions) bool {
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return false
	}
	// Somebody else may have renamed it since it was opened: then the name is free or new.
	opened, err := f.Stat()
	if err != nil {
		return false
	}
	if now, err := os.Stat(o.File); err != nil || !os.SameFile(opened, now) {
		return true
	}
	if os.Rename(o.File, o.File+"."+time.Now().UTC().Format("20060102T150405.000000000")) != nil {
		return false
	}
	prune(o)
	return true
}

// prune deletes the old log files that are too many or too old. Their names sort by time.
func prune(o *conflist.LogOptions) {
	dir, err := os.Open(filepath.Dir(o.File))
	if err != nil {
		return
	}
	defer func() { _ = dir.Close() }()
	names, _ := dir.Readdirnames(-1) // os.ReadDir would sort more than names, which is 10 KB of every plugin
	var old []string
	for _, name := range names {
		if strings.HasPrefix(name, filepath.Base(o.File)+".2") {
			old = append(old, filepath.Join(filepath.Dir(o.File), name))
		}
	}
	slices.Sort(old)
	slices.Reverse(old)
	oldest := time.Now().AddDate(0, 0, -o.MaxAge)
	for i, path := range old {
		info, err := os.Stat(path)
		if i >= o.MaxCount || err == nil && info.ModTime().Before(oldest) {
			_ = os.Remove(path)
		}
	}
}
