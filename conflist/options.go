package conflist

import (
	"errors"
	"log/slog"
	"path"
	"strings"
)

// Firewall is the backend that holds the marks and the masquerading.
type Firewall string

// The values of firewall.
const (
	Auto     Firewall = "auto"     // nftables if the kernel can, iptables otherwise
	NFTables Firewall = "nftables" // nothing but nftables
	IPTables Firewall = "iptables" // the iptables binaries, legacy or nft
)

// UnmarshalJSON implements json.Unmarshaler.
func (f *Firewall) UnmarshalJSON(raw []byte) error {
	s, err := unquote(raw)
	if err != nil {
		return err
	}
	switch backend := Firewall(s); backend {
	case Auto, NFTables, IPTables:
		*f = backend
		return nil
	case "":
		return errEmpty
	}
	return errors.New("no such backend")
}

func (*Firewall) accepted() string { return "auto, nftables or iptables" }

// LogOptions are the log_options: a log file of the plugin, one line a verb and one a change at debug. A log that
// cannot be written never fails a pod.
type LogOptions struct {
	Level    slog.Level // log_level: debug (default), info, warn or error, in any case
	File     string     // log_file: absolute; default /var/log/meta-plugins/<plugin>.log
	MaxSize  int        // log_max_size: MB of one file, default 100
	MaxAge   int        // log_max_age: days that old files are kept, default 5
	MaxCount int        // log_max_count: number of old files, default 5
}

func defaultLogOptions(plugin string) *LogOptions {
	return &LogOptions{
		Level:    slog.LevelDebug,
		File:     "/var/log/meta-plugins/" + plugin + ".log",
		MaxSize:  100,
		MaxAge:   5,
		MaxCount: 5,
	}
}

// maxLog bounds the numbers of log_options: 100 GB, 270 years, a number of files that a directory still holds.
const maxLog = 100_000

func (o *LogOptions) keys() []key {
	return []key{
		{name: "log_level", value: (*level)(&o.Level)},
		{name: "log_file", value: (*logFile)(&o.File)},
		{name: "log_max_size", value: integer{&o.MaxSize, 1, maxLog}},
		{name: "log_max_age", value: integer{&o.MaxAge, 1, maxLog}},
		{name: "log_max_count", value: integer{&o.MaxCount, 1, maxLog}},
	}
}

// level is a slog.Level by its plain name; "INFO+2", which slog accepts too, is not for operators.
type level slog.Level

// UnmarshalJSON implements json.Unmarshaler.
func (l *level) UnmarshalJSON(raw []byte) error {
	s, err := unquote(raw)
	if err != nil {
		return err
	}
	switch strings.ToLower(s) {
	case "debug":
		*l = level(slog.LevelDebug)
	case "info":
		*l = level(slog.LevelInfo)
	case "warn":
		*l = level(slog.LevelWarn)
	case "error":
		*l = level(slog.LevelError)
	case "":
		return errEmpty
	default:
		return errors.New("no such level")
	}
	return nil
}

func (*level) accepted() string { return "debug, info, warn or error" }

// logFile is the absolute path of a file.
type logFile string

// UnmarshalJSON implements json.Unmarshaler.
func (f *logFile) UnmarshalJSON(raw []byte) error {
	s, err := unquote(raw)
	switch {
	case err != nil:
		return err
	case s == "":
		return errEmpty
	case !path.IsAbs(s):
		return errors.New("not absolute: a plugin has no working directory to rely on")
	case strings.HasSuffix(s, "/") || strings.ContainsRune(s, 0):
		return errors.New("not the name of a file")
	}
	*f = logFile(path.Clean(s))
	return nil
}

func (*logFile) accepted() string { return "the absolute path of a file" }
