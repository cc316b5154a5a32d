package conformance

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

func versionRows() []Row {
	rows := []Row{
		{
			Name: "VERSION/answer", Level: Must, run: versionAnswer,
			Spec: "Plugins must output a JSON object with cniVersion and supportedVersions upon a VERSION operation.",
		},
		{
			Name: "VERSION/the versions of the configuration are listed", Level: Must, run: versionConfigured,
			Spec: "Plugins indicate their set of supported versions through the VERSION command.",
		},
		{
			Name: "VERSION/a version that is not listed is refused with code 1", Level: Must, run: versionUnlisted,
			Spec: "1: Incompatible CNI version.",
		},
	}
	for _, v := range Versions {
		rows = append(rows, Row{
			Name: "VERSION/cniVersion is that of the input/" + v, Level: Must,
			Spec: "cniVersion: The value of cniVersion specified on input.",
			run:  func(t *trial) error { return t.versionEcho(v) },
		})
	}
	return rows
}

// askVersion is a VERSION with nothing but what it requires.
func (t *trial) askVersion(i int, version string) (map[string]any, error) {
	path, err := t.find(t.typeOf(i))
	if err != nil {
		return nil, err
	}
	return t.do(&request{
		path: path, config: map[string]any{"cniVersion": version}, env: map[string]string{"CNI_COMMAND": "VERSION"},
	})
}

// listed is what a plugin says it supports.
func (t *trial) listed(i int) ([]string, error) {
	answer, err := t.askVersion(i, Versions[len(Versions)-1])
	if err != nil {
		return nil, err
	}
	list, _ := answer["supportedVersions"].([]any)
	var versions []string
	for _, v := range list {
		version, ok := v.(string)
		if !ok {
			return nil, fmt.Errorf("VERSION: supportedVersions has %v, which is no text", v)
		}
		versions = append(versions, version)
	}
	if len(versions) == 0 {
		return nil, fmt.Errorf("VERSION: supportedVersions is missing or empty: %v", answer)
	}
	return versions, nil
}

// supports skips the row if the plugin, or one before it, has not the version.
func (t *trial) supports(version string) error {
	if !slices.Contains(t.versions, version) {
		return inapplicable("VERSION does not list " + version)
	}
	t.version = version
	return nil
}

// since skips the row in versions that are older.
func (t *trial) since(version string) error {
	if t.older(version) {
		return inapplicable("VERSION lists nothing from " + version + " on")
	}
	return nil
}

// older tells whether the version of the trial is older than another.
func (t *trial) older(version string) bool {
	return slices.Index(Versions, t.version) < slices.Index(Versions, version)
}

var semver = regexp.MustCompile(`^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$`)

func versionAnswer(t *trial) error {
	listed, err := t.listed(t.Index)
	if err != nil {
		return err
	}
	for _, v := range listed {
		if !semver.MatchString(v) {
			return fmt.Errorf("VERSION: supportedVersions has %q, which is no version", v)
		}
	}
	answer, err := t.askVersion(t.Index, "0.2.0")
	if err != nil {
		return err
	}
	if version, _ := answer["cniVersion"].(string); !semver.MatchString(version) {
		return fmt.Errorf("VERSION: cniVersion is %v, which is no version", answer["cniVersion"])
	}
	// The other parameters are no reason to fail.
	c, err := t.container()
	if err != nil {
		return err
	}
	return t.succeed(t.request("VERSION", c))
}

func (t *trial) versionEcho(version string) error {
	answer, err := t.askVersion(t.Index, version)
	if err != nil {
		return err
	}
	if answer["cniVersion"] != version {
		return fmt.Errorf("VERSION: cniVersion is %v, want that of the input, %s", answer["cniVersion"], version)
	}
	return nil
}

func versionConfigured(t *trial) error {
	listed, err := t.listed(t.Index)
	if err != nil {
		return err
	}
	var errs []error
	for _, v := range t.configured() {
		if !slices.Contains(listed, v) {
			errs = append(errs, fmt.Errorf("the configuration has version %s, VERSION lists %s", v, strings.Join(listed, ", ")))
		}
	}
	return errors.Join(errs...)
}

// versionUnlisted refuses the versions that exist and are not listed, and one that does not exist.
func versionUnlisted(t *trial) error {
	listed, err := t.listed(t.Index)
	if err != nil {
		listed = t.versions
	}
	c, err := t.before()
	if err != nil {
		return err
	}
	before, err := t.state()
	if err != nil {
		return err
	}
	var errs []error
	for _, v := range append(slices.Clone(Versions), "9.9.9") {
		if slices.Contains(listed, v) {
			continue
		}
		for _, verb := range []string{"ADD", "CHECK"} {
			r := t.request(verb, c).with("cniVersion", v)
			if _, err := t.refuse(r, 1); err != nil {
				errs = append(errs, fmt.Errorf("version %s: %w", v, err))
			}
		}
	}
	return errors.Join(append(errs, t.back(before))...)
}
