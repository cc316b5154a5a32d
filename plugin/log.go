package plugin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"underlay-cni/conflist"
)

// Warn writes a line to the log, if there is one: of what is no error, and what somebody may look for.
func (r *Request) Warn(message string) {
	if r.log != nil {
		r.log.Warn(message)
	}
}

// LogTo has the request write its log as the configuration says: one line a verb, and one a change at
// debug. Without options, or where the file cannot be written, there is no log: it never fails a pod, and never holds
// one up. A request that no runtime has made keeps none.
func (r *Request) LogTo(o *conflist.LogOptions) {
	if o == nil || r.log == nil {
		return
	}
	f := &logFile{LogOptions: o}
	if f.open() != nil {
		return
	}
	f.prune()
	r.log = slog.New(slog.NewTextHandler(f, &slog.HandlerOptions{Level: o.Level})).With("verb", r.Verb,
		"network", r.Network, "container", r.ContainerID, "ifname", r.IfName)
	if id := traceID(os.Getenv("TRACEPARENT")); id != "" {
		r.log = r.log.With("trace_id", id)
	}
}

// traceID is the id of the trace that the caller is part of, from a traceparent as the W3C's Trace Context has it:
// 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01. One that is not valid counts for nothing.
func traceID(parent string) string {
	const lengths = "2-32-16-2"
	parts := strings.Split(parent, "-")
	if len(parts) < 4 || len(parts) > 4 && parts[0] == "00" || parts[0] == "ff" {
		return ""
	}
	for i, want := range strings.Split(lengths, "-") {
		if fmt.Sprint(len(parts[i])) != want || strings.Trim(parts[i], "0123456789abcdef") != "" {
			return ""
		}
	}
	if strings.Trim(parts[1], "0") == "" || strings.Trim(parts[2], "0") == "" {
		return ""
	}
	return parts[1]
}

// logVerb writes the line of the verb.
func (r *Request) logVerb(took time.Duration, err error) {
	level, attrs := slog.LevelInfo, []slog.Attr{slog.Duration("took", took), slog.String("netns", r.Netns), slog.String("args", r.Args)}
	if err != nil {
		level, attrs = slog.LevelError, append(attrs, slog.String("error", err.Error()))
	}
	r.log.LogAttrs(context.Background(), level, "done", attrs...)
}

// logChange writes the line of a change that was made, or undone.
func logChange(l *slog.Logger, what string, c Change, err error) {
	ctx := context.Background()
	if !l.Enabled(ctx, slog.LevelDebug) {
		return // a line costs more than the change
	}
	attrs := []slog.Attr{slog.String("line", firstLine(c))}
	if err != nil {
		attrs = append(attrs, slog.String("error", err.Error()))
	}
	l.LogAttrs(ctx, slog.LevelDebug, what, attrs...)
}

// A logFile is appended to by many short processes at the same time: each line is one write. A file that has reached its
// size is put aside first, by one process under a lock; those that meet the lock append all the same, so that the file
// may exceed its size by a line for each process that writes at that moment, and nobody waits.
type logFile struct {
	*conflist.LogOptions
	fd int
}

// open opens the file. What is no regular file, a device or a pipe, is an error, and so is standard output by another name
// (/dev/stdout, /proc/self/fd/1), which is for the result alone.
func (l *logFile) open() (err error) {
	var stat unix.Stat_t
	if unix.Stat(l.File, &stat) == nil && !loggable(&stat) { // a device may do something when it is opened
		return errNoLog
	}
	if err := os.MkdirAll(filepath.Dir(l.File), 0o750); err != nil {
		return fmt.Errorf("make the log's directory: %w", err)
	}
	// Not package os: a pipe that is full would hold up whoever writes to it there.
	l.fd, err = unix.Open(l.File, unix.O_WRONLY|unix.O_APPEND|unix.O_CREAT|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, 0o600)
	if err != nil {
		return err
	}
	if err = unix.Fstat(l.fd, &stat); err == nil && !loggable(&stat) {
		err = errNoLog
	}
	if err != nil {
		_ = unix.Close(l.fd)
	}
	return err
}

var errNoLog = errors.New("not a regular file of its own")

// loggable tells a regular file that is not standard output.
func loggable(file *unix.Stat_t) bool {
	var out unix.Stat_t
	isOut := unix.Fstat(unix.Stdout, &out) == nil && out.Dev == file.Dev && out.Ino == file.Ino
	return file.Mode&unix.S_IFMT == unix.S_IFREG && !isOut
}

// Write writes one line.
func (l *logFile) Write(line []byte) (int, error) {
	var stat unix.Stat_t
	if unix.Fstat(l.fd, &stat) == nil && stat.Mode&unix.S_IFMT == unix.S_IFREG && stat.Size+int64(len(line)) > int64(l.MaxSize)<<20 {
		l.next(&stat)
	}
	return unix.Write(l.fd, line)
}

// next goes on with an empty file: it puts the full one aside, unless another process does or has done so.
func (l *logFile) next(full *unix.Stat_t) {
	if unix.Flock(l.fd, unix.LOCK_EX|unix.LOCK_NB) != nil {
		return
	}
	var now unix.Stat_t
	err := unix.Stat(l.File, &now)
	if err == nil && now.Ino == full.Ino && now.Dev == full.Dev {
		err = unix.Rename(l.File, l.File+"."+time.Now().UTC().Format(asideLayout))
		l.prune()
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		_ = unix.Flock(l.fd, unix.LOCK_UN)
		return
	}
	old := l.fd
	if l.open() != nil {
		l.fd = old // better there than nowhere
	} else {
		_ = unix.Close(old)
	}
}

// asideLayout is what the name of a file that was put aside ends with.
const asideLayout = "20060102T150405.000000000"

// aside tells whether a name is one that next makes: logrotate(8) puts files aside too, x.log.20261130 or x.log.2.gz, and those
// are not ours.
func (l *logFile) aside(name string) bool {
	suffix, ok := strings.CutPrefix(name, filepath.Base(l.File)+".")
	when, err := time.Parse(asideLayout, suffix)
	return ok && err == nil && when.Format(asideLayout) == suffix
}

// prune deletes the old log files that are too many or too old. Their names sort by time.
func (l *logFile) prune() {
	dir, err := os.Open(filepath.Dir(l.File))
	if err != nil {
		return
	}
	defer func() { _ = dir.Close() }()
	names, _ := dir.Readdirnames(-1) // os.ReadDir would sort more than names, which is 10 KB of every plugin
	var old []string
	for _, name := range names {
		if l.aside(name) {
			old = append(old, filepath.Join(filepath.Dir(l.File), name))
		}
	}
	slices.Sort(old)
	slices.Reverse(old)
	oldest := time.Now().AddDate(0, 0, -l.MaxAge)
	for i, path := range old {
		info, err := os.Lstat(path)
		if err == nil && info.Mode().IsRegular() && (i >= l.MaxCount || info.ModTime().Before(oldest)) {
			_ = os.Remove(path)
		}
	}
}
