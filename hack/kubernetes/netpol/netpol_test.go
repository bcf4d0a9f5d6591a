// Package netpol runs upstream's end-to-end specs of NetworkPolicy, as they are,
// without the rest of the e2e suite, which would take many times as long to build.
package netpol

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"k8s.io/kubernetes/test/e2e"
	"k8s.io/kubernetes/test/e2e/framework"
	"k8s.io/kubernetes/test/e2e/framework/config"
	"k8s.io/kubernetes/test/e2e/framework/testfiles"
	testmanifests "k8s.io/kubernetes/test/e2e/testing-manifests"
	"k8s.io/kubernetes/test/utils/image"

	// The specs.
	_ "k8s.io/kubernetes/test/e2e/network/netpol"

	// What the e2e suite adds to its framework, for the labels, the dumps and the wording of failures.
	_ "k8s.io/kubernetes/test/e2e/feature"
	_ "k8s.io/kubernetes/test/e2e/framework/debug/init"
	_ "k8s.io/kubernetes/test/e2e/framework/metrics/init"
	_ "k8s.io/kubernetes/test/e2e/framework/node/init"
	_ "k8s.io/kubernetes/test/utils/format"
)

func TestMain(m *testing.M) {
	config.CopyFlags(config.Flags, flag.CommandLine)
	framework.RegisterCommonFlags(flag.CommandLine)
	framework.RegisterClusterFlags(flag.CommandLine)
	flag.Parse()
	if framework.TestContext.ListImages {
		listImages()
		return
	}
	testfiles.AddFileSource(testmanifests.GetE2ETestingManifestsFS())
	framework.AfterReadingAllFlags(&framework.TestContext)
	os.Exit(m.Run())
}

// listImages prints the two images that a cluster for the specs must have, one a line.
func listImages() {
	for _, id := range []image.ImageID{image.Agnhost, image.Pause} {
		fmt.Println(image.GetE2EImage(id))
	}
}

func TestE2E(t *testing.T) {
	e2e.RunE2ETests(t)
}
