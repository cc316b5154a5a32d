// Package networkd tells what systemd-networkd, where a node has it, would do to the objects of the plugins when it
// restarts: it deletes rules and routes that it has not made itself, unless networkd.conf(5) says otherwise. It reads
// files only and asks no daemon.
package networkd

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"underlay-cni/conflist/quote"
)

// State is how networkd is set up on a machine.
type State struct {
	Active bool // it runs, or starts at boot

	// What it deletes when it starts, other than what has protocol kernel.
	ForeignRules, ForeignRoutes bool

	// Claims is the .network file that makes it manage interfaces of that name, "" for none.
	Claims string
}

// DropIn is the file that stops networkd from deleting what others made; Unmanaged is the one that keeps it off host ends.
const (
	DropIn    = "etc/systemd/networkd.conf.d/zz-underlay-cni.conf" // the last one wins
	Unmanaged = "etc/systemd/network/00-underlay-cni.network"      // the first one wins
)

// The contents of both.
const (
	dropInText = "# Written by `underlayctl diagnose --fix`: systemd-networkd leaves the rules and routes of pods alone.\n" +
		"[Network]\nManageForeignRoutingPolicyRules=no\nManageForeignRoutes=no\n"
	unmanagedText = "# Written by `underlayctl diagnose --fix`: the node's ends of pods' veth pairs are not systemd-networkd's.\n" +
		"[Match]\nKind=veth\nName=veth[0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f]\n\n[Link]\nUnmanaged=yes\n"
)

// vendors are the directories of configuration, the strongest first.
var vendors = []string{"etc/systemd", "run/systemd", "usr/local/lib/systemd", "usr/lib/systemd", "lib/systemd"}

// Look reads the set-up of the machine whose file system begins at root. The name is that of an interface, a host end.
func Look(root, name string) (State, error) {
	s := State{ForeignRules: true, ForeignRoutes: true}
	for _, sign := range []string{
		"run/systemd/netif", "etc/systemd/system/dbus-org.freedesktop.network1.service", "etc/systemd/system/*.wants/systemd-networkd.service",
	} {
		found, err := filepath.Glob(filepath.Join(root, sign))
		if err != nil {
			return s, fmt.Errorf("look for systemd-networkd: %w", err)
		}
		s.Active = s.Active || len(found) > 0
	}
	if !s.Active {
		return s, nil
	}
	files, err := configuration(root)
	if err != nil {
		return s, err
	}
	for _, file := range files {
		settings, err := parse(file)
		if err != nil {
			return s, err
		}
		for key, value := range map[string]*bool{
			"Network.ManageForeignRoutingPolicyRules": &s.ForeignRules, "Network.ManageForeignRoutes": &s.ForeignRoutes,
		} {
			if last := settings[key]; len(last) > 0 {
				*value = !slices.Contains([]string{"0", "no", "n", "false", "f", "off"}, strings.ToLower(last[len(last)-1]))
			}
		}
	}
	s.Claims, err = claims(root, name)
	return s, err
}

// configuration lists networkd.conf and its drop-ins, in the order in which they are read: the first of the main files,
// then the drop-ins by name, of which a stronger directory hides those of the same name.
func configuration(root string) (files []string, err error) {
	for _, dir := range vendors {
		main := filepath.Join(root, dir, "networkd.conf")
		if _, err := os.Stat(main); err == nil {
			files = append(files, main)
			break
		}
	}
	dropIns, err := merged(root, "networkd.conf.d/*.conf")
	return append(files, dropIns...), err
}

// merged lists the files of all directories that match, by name; a stronger one hides a weaker one of the same name.
func merged(root, pattern string) (files []string, err error) {
	byName := map[string]string{}
	for _, dir := range slices.Backward(vendors) {
		found, err := filepath.Glob(filepath.Join(root, dir, pattern))
		if err != nil {
			return nil, fmt.Errorf("look for systemd's files: %w", err)
		}
		for _, file := range found {
			byName[filepath.Base(file)] = file
		}
	}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		files = append(files, byName[name])
	}
	return files, nil
}

// escape makes a pattern of filepath.Match that is one name.
var escape = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`)

// claims finds the .network file that applies to a veth of that name: the first one that matches, with its drop-ins, unless it says that
// the interface is none of networkd's.
func claims(root, name string) (string, error) {
	files, err := merged(root, "network/*.network")
	if err != nil {
		return "", err
	}
	for _, file := range files {
		if info, err := os.Stat(file); err == nil && (info.Size() == 0 || !info.Mode().IsRegular()) {
			continue // masked: an empty file, or a link to /dev/null
		}
		dropIns, err := merged(root, "network/"+escape.Replace(filepath.Base(file))+".d/*.conf")
		if err != nil {
			return "", err
		}
		settings, err := parse(append([]string{file}, dropIns...)...)
		if err != nil {
			return "", err
		}
		if !matches(settings, name) {
			continue
		}
		if last := settings["Link.Unmanaged"]; len(last) > 0 && slices.Contains([]string{"1", "yes", "y", "true", "t", "on"}, strings.ToLower(last[len(last)-1])) {
			return "", nil
		}
		return file, nil
	}
	return "", nil
}

// matches looks at [Match] with the eyes of a veth of that name. Sections that ask for something that it lacks do not
// match, and an empty one does not count.
func matches(settings map[string][]string, name string) bool {
	matched := false
	for key, values := range settings {
		what, ok := strings.CutPrefix(key, "Match.")
		if !ok {
			continue
		}
		var is string
		switch what {
		case "Name":
			is = name
		case "Kind", "Driver":
			is = "veth"
		case "Type":
			is = "ether"
		default:
			return false // a hardware address, a path: of something else
		}
		if !anyGlob(values, is) {
			return false
		}
		matched = true
	}
	return matched
}

// anyGlob matches lists of shell patterns with blanks between them; one that begins with an exclamation mark is negated.
func anyGlob(lists []string, s string) bool {
	words := strings.Fields(strings.Join(lists, " "))
	negated := len(words) > 0 && strings.HasPrefix(words[0], "!")
	if negated {
		words[0] = words[0][1:]
	}
	return negated != slices.ContainsFunc(words, func(pattern string) bool {
		ok, _ := filepath.Match(pattern, s)
		return ok
	})
}

// parse reads the settings of files of systemd.syntax(7), one after the other, by "Section.Key". A file that has gone meanwhile is
// empty. An empty value takes back what [Match] has said by then of the key; elsewhere, where values are no lists, it does not count.
func parse(files ...string) (map[string][]string, error) {
	settings := map[string][]string{}
	for _, file := range files {
		text, err := os.ReadFile(file) //nolint:gosec // below the directories of systemd
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read the configuration of systemd-networkd: %w", err)
		}
		section := ""
		for _, line := range joined(string(text)) {
			switch key, value, ok := strings.Cut(line, "="); {
			case line[0] == '[':
				section = strings.Trim(line, "[]")
			case ok:
				key, value = section+"."+strings.TrimSpace(key), strings.TrimSpace(value)
				switch {
				case value != "":
					settings[key] = append(settings[key], value)
				case section == "Match":
					delete(settings, key)
				}
			}
		}
	}
	return settings, nil
}

// joined are the lines of a file without blanks around them, empty lines and comments. A line that ends in a backslash goes on in
// the next one that is no comment, with a blank in place of the backslash.
func joined(text string) (lines []string) {
	before := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line != "" && (line[0] == '#' || line[0] == ';') {
			continue
		}
		if more, goesOn := strings.CutSuffix(before+line, "\\"); goesOn {
			before = more + " "
			continue
		}
		if line = strings.TrimSpace(before + line); line != "" {
			lines = append(lines, line)
		}
		before = ""
	}
	if before = strings.TrimSpace(before); before != "" {
		lines = append(lines, before)
	}
	return lines
}

// A File is a file that is to be written, as a change of a plan is: Apply writes it, Revert takes it back.
type File struct{ Path, text string }

// KeepForeign is the file that makes networkd leave alone what others made.
func KeepForeign(root string) *File { return &File{filepath.Join(root, DropIn), dropInText} }

// KeepOff is the file that makes networkd leave host ends alone.
func KeepOff(root string) *File { return &File{filepath.Join(root, Unmanaged), unmanagedText} }

// String is a command that writes the file.
func (f *File) String() string {
	return fmt.Sprintf("mkdir -p %s && cat >%s <<'EOF'\n%sEOF", quote.Sh(filepath.Dir(f.Path)), quote.Sh(f.Path), f.text)
}

// Apply writes the file over whatever is there. networkd reads it when it starts the next time.
func (f *File) Apply() error {
	if err := os.MkdirAll(filepath.Dir(f.Path), 0o755); err != nil { //nolint:gosec // as systemd's own
		return fmt.Errorf("write %s: %w", f.Path, err)
	}
	if err := os.WriteFile(f.Path, []byte(f.text), 0o644); err != nil { //nolint:gosec // networkd is another user
		return fmt.Errorf("write %s: %w", f.Path, err)
	}
	return nil
}

// Verify tells whether the file is there.
func (f *File) Verify() error {
	text, err := os.ReadFile(f.Path)
	if err == nil && string(text) != f.text {
		err = fmt.Errorf("%s is of somebody else", f.Path)
	}
	return err
}

// Revert deletes the file. It is no error if it is gone.
func (f *File) Revert() error {
	if err := os.Remove(f.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// A NoFile is the absence of a file of ours.
type NoFile struct{ *File }

// String is a command that deletes the file.
func (n *NoFile) String() string { return "rm " + quote.Sh(n.Path) }

// Apply deletes the file. It is no error if it is gone.
func (n *NoFile) Apply() error { return n.File.Revert() }

// Verify tells whether the file is gone.
func (n *NoFile) Verify() error {
	if _, err := os.Stat(n.Path); err == nil {
		return fmt.Errorf("%s is still there", n.Path)
	}
	return nil
}

// Revert does nothing: what is gone was ours.
func (*NoFile) Revert() error { return nil }
