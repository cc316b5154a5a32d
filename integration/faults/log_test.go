package faults

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"underlay-cni/integration/lab"
)

// logged is a subject with log_options.
func logged(s *Subject, file string, options map[string]any) *Subject {
	return s.With(func(c *lab.Conflist) {
		o := map[string]any{"log_file": file}
		maps.Copy(o, options)
		c.Plugin(s.Type())["log_options"] = o
	})
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	must(t, err)
	return string(text)
}

// TestLogLines: one a verb, one a change at debug, and the trace of a caller that has one.
func TestLogLines(t *testing.T) {
	eachPlugin(t, func(t *testing.T, s *Subject) {
		t.Helper()
		const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
		for level, wantChanges := range map[string]bool{"debug": true, "info": false} {
			t.Run(level, func(t *testing.T) {
				t.Parallel()
				file := filepath.Join(t.TempDir(), "deep", "veth-host.log")
				at := logged(s, file, map[string]any{"log_level": level})
				p := plugged(t, at, alone(t, at).N1, 0)
				changes := len(planOf(t, at, p, at.Plugin.Add))
				for _, verb := range []string{"ADD", "CHECK", "DEL"} {
					_ = os.Remove(file)
					_, err := p.Node.Plugin(at.Type(), at.Request(p), append(p.Variables(verb), "CNI_ARGS=K8S_POD_NAME=web-0", "TRACEPARENT=00-"+trace+"-00f067aa0ba902b7-01")...)
					must(t, err)
					var done, changed int
					for line := range strings.Lines(read(t, file)) {
						want := fmt.Sprintf(" verb=%s network=cni0 container=%s ifname=%s trace_id=%s ", verb, p.ContainerID(), p.IfName, trace)
						if !strings.Contains(line, want) {
							t.Errorf("%q has not %q", line, want)
						}
						switch {
						case regexp.MustCompile(`^time=\S+ level=INFO msg=done .* took=\S+ netns=/proc/\S+ args="K8S_POD_NAME=web-0"\n$`).MatchString(line):
							done++
						case regexp.MustCompile(`^time=\S+ level=DEBUG msg=change .* line="(nsenter \S+ )?(ip|sysctl|nft) .*"\n$`).MatchString(line):
							changed++
						default:
							t.Errorf("what is this: %q", line)
						}
					}
					want := 0
					if verb == "ADD" && wantChanges {
						want = changes
					}
					if done != 1 || verb != "DEL" && changed != want || (changed > 0) != (wantChanges && verb != "CHECK") {
						t.Errorf("%s: %d lines of the verb, %d of changes, want %d", verb, done, changed, want)
					}
				}
				must(t, os.Remove(file))
				_, err := p.Node.Plugin(at.Type(), at.Request(p), append(p.Variables("ADD"), "TRACEPARENT=hello")...)
				must(t, err)
				if text := read(t, file); strings.Contains(text, "trace_id") || strings.Contains(text, "hello") {
					t.Errorf("a trace of nothing: %s", text)
				}
			})
		}
	})
}

// TestLogOfFailure: the change that failed, what was undone, and the error with its details.
func TestLogOfFailure(t *testing.T) {
	eachPlugin(t, func(t *testing.T, s *Subject) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "veth-host.log")
		s = logged(s, file, nil)
		p := plugged(t, s, alone(t, s).N1, 0)
		_, err := s.Trace("ADD", p, Refuse, 20)
		must(t, err)
		text := read(t, file)
		for _, want := range []string{` level=DEBUG msg=change .* error=".*cannot allocate memory`, ` level=DEBUG msg=undo .* line="(nsenter \S+ )?ip link (add|property) `, ` level=ERROR msg=done .* error=".*cannot allocate memory.*undone: `} {
			if !regexp.MustCompile(want).MatchString(text) {
				t.Errorf("no %q in:\n%s", want, text)
			}
		}
	})
}

// TestLogUnwritable: the pod starts all the same, and as fast.
func TestLogUnwritable(t *testing.T) {
	for name, prepare := range map[string]func(dir string) (file string, err error){
		"a directory of that name": func(dir string) (string, error) { return dir, nil },
		"a file in place of its directory": func(dir string) (string, error) {
			return dir + "/file/x.log", os.WriteFile(dir+"/file", nil, 0o600)
		},
		"a file system that cannot": func(string) (string, error) { return "/proc/x.log", nil },
		"a full disk":               func(string) (string, error) { return "/dev/full", nil },
		"a name that is too long":   func(dir string) (string, error) { return dir + "/" + strings.Repeat("x", 300), nil },
		"a link into nowhere":       func(dir string) (string, error) { return dir + "/x.log", os.Symlink("/nowhere/x.log", dir+"/x.log") },
		"a pipe that nobody has open": func(dir string) (string, error) {
			return dir + "/x.log", unix.Mkfifo(dir+"/x.log", 0o600)
		},
		"a pipe that nobody reads": func(dir string) (string, error) {
			if err := unix.Mkfifo(dir+"/x.log", 0o600); err != nil {
				return "", err
			}
			fd, err := unix.Open(dir+"/x.log", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
			for err == nil {
				_, err = unix.Write(fd, make([]byte, 4096))
			}
			return dir + "/x.log", nil // fd stays open, and the pipe full
		},
		"a log that another process holds the lock of": func(dir string) (string, error) {
			if err := os.WriteFile(dir+"/x.log", make([]byte, 1<<20), 0o600); err != nil {
				return "", err
			}
			fd, err := unix.Open(dir+"/x.log", unix.O_RDWR|unix.O_CLOEXEC, 0)
			if err != nil {
				return "", err
			}
			return dir + "/x.log", unix.Flock(fd, unix.LOCK_EX)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file, err := prepare(t.TempDir())
			must(t, err)
			s := logged(&Subjects[0], file, map[string]any{"log_max_size": 1})
			p := plugged(t, s, alone(t, s).N1, 0)
			start := time.Now()
			add(t, s, p)
			check(t, s, p)
			del(t, s, p)
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

// TestLogOfManyProcesses: fifty at a time write into a log that is full again and again. No line is lost or torn, no
// file exceeds its size by more than a line for each of them.
func TestLogOfManyProcesses(t *testing.T) {
	t.Parallel()
	const workers, rounds, size, most = 50, 16, 1 << 20, 9
	dir := t.TempDir()
	s := logged(&Subjects[0], filepath.Join(dir, "x.log"), map[string]any{"log_max_size": 1, "log_max_count": most, "log_level": "info"})
	n := alone(t, s).N1
	p, err := n.NewPod("a")
	must(t, err)
	long := strings.Repeat("x", 4000)
	var running sync.WaitGroup
	for worker := range workers {
		running.Go(func() {
			for round := range rounds {
				id := fmt.Sprintf("CNI_CONTAINERID=c%dr%d", worker, round)
				if _, err := n.Plugin(s.Type(), s.Request(p), append(p.Variables("DEL", id, "CNI_NETNS="), "CNI_ARGS="+long)...); err != nil {
					t.Error(err)
				}
			}
		})
	}
	running.Wait()

	files, err := filepath.Glob(dir + "/x.log*")
	must(t, err)
	whole := regexp.MustCompile(`^time=\S+ level=INFO msg=done verb=DEL network=cni0 container=(c\d+r\d+) ifname=eth0 took=\S+ netns="" args=` + long + `\n$`)
	seen := map[string]int{}
	for _, file := range files {
		text := read(t, file)
		if len(text) > size+workers*(len(long)+200) {
			t.Errorf("%s has %d bytes", file, len(text))
		}
		for line := range strings.Lines(text) {
			if m := whole.FindStringSubmatch(line); m != nil {
				seen[m[1]]++
			} else {
				t.Errorf("a torn line in %s: %.200q", file, line)
			}
		}
	}
	if len(seen) != workers*rounds || len(files) < 3 || len(files) > most+1 {
		t.Errorf("%d lines of %d, %d files", len(seen), workers*rounds, len(files))
	}
	for id, count := range seen {
		if count != 1 {
			t.Errorf("%s has %d lines", id, count)
		}
	}
}

// TestLogsGo: old ones that are too many or too old, and nothing else.
func TestLogsGo(t *testing.T) {
	old := func(hour int) string { return fmt.Sprintf("x.log.20260102T%02d0405.000000000", hour) }
	others := []string{"x.log.gz", "x.log.1", "y.log.20260102T150405.000000000"}
	for _, test := range []struct {
		name    string
		days    int // the age of the first
		full    bool
		options map[string]any
		keeps   []string
	}{
		{"few and new", 0, false, nil, []string{old(1), old(2), old(3)}},
		{"too old", 6, false, nil, []string{old(2), old(3)}},
		{"old, but not too old", 6, false, map[string]any{"log_max_age": 7}, []string{old(1), old(2), old(3)}},
		{"too many", 0, false, map[string]any{"log_max_count": 2}, []string{old(2), old(3)}},
		{"too many with the one that is put aside", 0, true, map[string]any{"log_max_size": 1, "log_max_count": 2}, []string{old(3)}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for hour := range 3 {
				must(t, os.WriteFile(filepath.Join(dir, old(hour+1)), nil, 0o600))
			}
			then := time.Now().AddDate(0, 0, -test.days)
			must(t, os.Chtimes(filepath.Join(dir, old(1)), then, then))
			for _, name := range others {
				must(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
				must(t, os.Chtimes(filepath.Join(dir, name), time.Unix(1, 0), time.Unix(1, 0)))
			}
			s := logged(&Subjects[0], filepath.Join(dir, "x.log"), test.options)
			if test.full {
				must(t, os.WriteFile(filepath.Join(dir, "x.log"), make([]byte, 1<<20), 0o600))
			}
			p, err := alone(t, s).N1.NewPod("a")
			must(t, err)
			del(t, s, p)

			entries, err := os.ReadDir(dir)
			must(t, err)
			var got []string
			for _, e := range entries {
				got = append(got, e.Name())
			}
			want := append([]string{"x.log"}, append(others, test.keeps...)...)
			aside := 0
			for _, name := range got {
				if strings.HasPrefix(name, "x.log.20") && !strings.HasPrefix(name, "x.log.20260102") || name == "" {
					aside++
				}
			}
			if len(got)-aside != len(want) || (aside == 1) != test.full {
				t.Errorf("got %v, want %v, and one put aside: %t", got, want, test.full)
			}
			for _, name := range want {
				if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
