// Command juju-charm reads charms and bundles with Juju's own parser and says what it makes of them.
//
//	juju-charm charm FILE.charm...
//	juju-charm bundle BUNDLE.yaml [OVERLAY.yaml...]
//
// For each charm it prints a JSON object on a line of its own. For a bundle it prints nothing but
// errors: the merged bundle must be valid, and the options and relations of the charms that the
// bundle takes from files must fit those charms.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/juju/charm/v12"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: juju-charm charm FILE.charm... | bundle BUNDLE.yaml [OVERLAY.yaml...]")
		os.Exit(2)
	}
	var err error
	switch os.Args[1] {
	case "charm":
		err = readCharms(os.Args[2:])
	case "bundle":
		err = verifyBundle(os.Args[2], os.Args[3:])
	default:
		err = fmt.Errorf("unknown command %q", os.Args[1])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// summary is what Juju understood of a charm.
type summary struct {
	Name       string            `json:"name"`
	Bases      []string          `json:"bases"`
	Containers map[string]string `json:"containers"` // name: the resource of its image
	Resources  map[string]string `json:"resources"`  // name: its type
	Storage    map[string]string `json:"storage"`    // name: its type
	Options    map[string]string `json:"options"`    // name: its type
	Actions    []string          `json:"actions"`
	Provides   map[string]string `json:"provides"` // endpoint: its interface
	Requires   map[string]string `json:"requires"`
	Peers      map[string]string `json:"peers"`
	Assumes    bool              `json:"assumes"`
}

func readCharms(paths []string) error {
	for _, path := range paths {
		archive, err := readCharm(path)
		if err != nil {
			return err
		}
		if err := json.NewEncoder(os.Stdout).Encode(summarise(archive)); err != nil {
			return err
		}
	}
	return nil
}

// readCharm reads a .charm and checks what Juju checks when one is deployed to Kubernetes.
func readCharm(path string) (*charm.CharmArchive, error) {
	archive, err := charm.ReadCharmArchive(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	// A Kubernetes model refuses charms of the first metadata format.
	if charm.MetaFormat(archive) != charm.FormatV2 {
		return nil, fmt.Errorf("%s: metadata of the first format: no bases in manifest.yaml", path)
	}
	if err := charm.CheckMeta(archive); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	members, err := archive.ArchiveMembers()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if !members.Contains("dispatch") {
		return nil, fmt.Errorf("%s: no dispatch", path)
	}
	return archive, nil
}

func summarise(archive *charm.CharmArchive) summary {
	meta := archive.Meta()
	result := summary{
		Name:       meta.Name,
		Containers: map[string]string{},
		Resources:  map[string]string{},
		Storage:    map[string]string{},
		Options:    map[string]string{},
		Actions:    []string{},
		Provides:   interfaces(meta.Provides),
		Requires:   interfaces(meta.Requires),
		Peers:      interfaces(meta.Peers),
		Assumes:    meta.Assumes != nil,
	}
	for _, base := range archive.Manifest().Bases {
		result.Bases = append(result.Bases, base.String())
	}
	for name, container := range meta.Containers {
		result.Containers[name] = container.Resource
	}
	for name, resource := range meta.Resources {
		result.Resources[name] = resource.Type.String()
	}
	for name, storage := range meta.Storage {
		result.Storage[name] = string(storage.Type)
	}
	if config := archive.Config(); config != nil {
		for name, option := range config.Options {
			result.Options[name] = option.Type
		}
	}
	if actions := archive.Actions(); actions != nil {
		for name := range actions.ActionSpecs {
			result.Actions = append(result.Actions, name)
		}
		slices.Sort(result.Actions)
	}
	return result
}

func interfaces(relations map[string]charm.Relation) map[string]string {
	result := map[string]string{}
	for name, relation := range relations {
		result[name] = relation.Interface
	}
	return result
}

func verifyBundle(path string, overlays []string) error {
	var sources []charm.BundleDataSource
	for _, part := range append([]string{path}, overlays...) {
		source, err := charm.LocalBundleDataSource(part)
		if err != nil {
			return fmt.Errorf("%s: %w", part, err)
		}
		for _, document := range source.Parts() {
			// Juju only warns of fields that it does not know; here they are mistakes.
			if document.UnmarshallError != nil {
				return fmt.Errorf("%s: %w", part, document.UnmarshallError)
			}
		}
		sources = append(sources, source)
	}
	bundle, err := charm.ReadAndMergeBundleData(sources...)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := bundle.VerifyLocal(filepath.Dir(path), nil, nil, nil); err != nil {
		return explain(err)
	}
	return verifyLocalCharms(bundle)
}

// verifyLocalCharms checks options and relations between the applications whose charms are files.
func verifyLocalCharms(bundle *charm.BundleData) error {
	local := *bundle
	local.Applications = map[string]*charm.ApplicationSpec{}
	local.Relations = nil
	charms := map[string]charm.Charm{}
	for name, application := range bundle.Applications {
		if !filepath.IsAbs(application.Charm) {
			continue
		}
		archive, err := readCharm(application.Charm)
		if err != nil {
			return fmt.Errorf("application %q: %w", name, err)
		}
		charms[application.Charm] = archive
		local.Applications[name] = application
		for resource := range archive.Meta().Resources {
			if _, given := application.Resources[resource]; !given {
				return fmt.Errorf("application %q: a charm from a file needs resource %q", name, resource)
			}
		}
		for resource := range application.Resources {
			if _, known := archive.Meta().Resources[resource]; !known {
				return fmt.Errorf("application %q: its charm has no resource %q", name, resource)
			}
		}
		for storage := range application.Storage {
			if _, known := archive.Meta().Storage[storage]; !known {
				return fmt.Errorf("application %q: its charm has no storage %q", name, storage)
			}
		}
	}
	for _, relation := range bundle.Relations {
		first, second := local.Applications[owner(relation[0])], local.Applications[owner(relation[1])]
		if first != nil && second != nil {
			local.Relations = append(local.Relations, relation)
		}
	}
	if len(local.Applications) == 0 {
		return nil
	}
	return explain(local.VerifyWithCharms(nil, nil, nil, charms))
}

// owner is the application of an endpoint such as "minio:object-storage".
func owner(endpoint string) string {
	application, _, _ := strings.Cut(endpoint, ":")
	return application
}

// explain puts each of several errors on a line of its own.
func explain(err error) error {
	several, ok := err.(*charm.VerificationError)
	if !ok {
		return err
	}
	var lines []string
	for _, one := range several.Errors {
		lines = append(lines, one.Error())
	}
	return fmt.Errorf("%s", strings.Join(lines, "\n"))
}
