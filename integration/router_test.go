package integration

import (
	"fmt"
	"testing"

	"underlay-cni/integration/lab"
	"underlay-cni/integration/paths"
)

func TestRouterPaths(t *testing.T) {
	for _, overlay := range lab.Overlays {
		runTable(t, fmt.Sprintf("%s", overlay), paths.Config{Plugin: "router", Flavour: lab.NFT, Options: lab.Options{Overlay: overlay, RPFilter: 1}})
	}
}
