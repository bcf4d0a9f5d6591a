// Package netpol runs upstream's end-to-end specs of NetworkPolicy, as they are,
// without the rest of the e2e suite, which would take many times as long to build.
package netpol

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/reporters"
	"github.com/onsi/ginkgo/v2/types"

	"k8s.io/kubernetes/test/e2e"
	"k8s.io/kubernetes/test/e2e/framework"
	"k8s.io/kubernetes/test/e2e/framework/config"
	"k8s.io/kubernetes/test/e2e/framework/testfiles"
	testmanifests "k8s.io/kubernetes/test/e2e/testing-manifests"
	"k8s.io/kubernetes/test/utils/image"

	// The specs.
	_ "k8s.io/kubernetes/test/e2e/network/netpol"

	// What the e2e suite adds to its framework: labels, dumps and the wording of failures.
	_ "k8s.io/kubernetes/test/e2e/feature"
	_ "k8s.io/kubernetes/test/e2e/framework/debug/init"
	_ "k8s.io/kubernetes/test/e2e/framework/metrics/init"
	_ "k8s.io/kubernetes/test/e2e/framework/node/init"
	_ "k8s.io/kubernetes/test/utils/format"
)

var junit = flag.String("junit", "", "`file` to write a JUnit report of the NetworkPolicy specs to")

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

// listImages prints the images that a cluster for the specs must have, one a line.
func listImages() {
	for _, id := range []image.ImageID{image.Agnhost, image.Pause} {
		fmt.Println(image.GetE2EImage(id))
	}
}

func TestE2E(t *testing.T) {
	e2e.RunE2ETests(t)
}

// The framework holds some specs of other subjects, which its own reports list as
// skipped; this one has those of NetworkPolicy, in one order, and what failed beside them.
var _ = ginkgo.ReportAfterSuite("NetworkPolicy report", func(report ginkgo.Report) {
	if *junit == "" {
		return
	}
	report.SuitePath = ""
	report.SpecReports = slices.DeleteFunc(report.SpecReports, func(spec types.SpecReport) bool {
		ours := spec.LeafNodeType == types.NodeTypeIt && strings.Contains(spec.FullText(), "Netpol")
		return !ours && !spec.Failed()
	})
	slices.SortFunc(report.SpecReports, func(a, b types.SpecReport) int {
		return strings.Compare(a.FullText(), b.FullText())
	})
	for i := range report.SpecReports {
		spec := &report.SpecReports[i]
		if spec.State == types.SpecStateSkipped && slices.Contains(spec.Labels(), "Feature:SCTPConnectivity") {
			spec.Failure.Message = "it opens SCTP sockets"
		}
	}
	settings := reporters.JunitReportConfig{
		OmitTimelinesForSpecState: types.SpecStatePassed | types.SpecStateSkipped,
		OmitFailureMessageAttr:    true,
		OmitSpecLabels:            true,
		OmitLeafNodeType:          true,
		OmitCapturedStdOutErr:     true,
	}
	if err := reporters.GenerateJUnitReportWithConfig(report, *junit, settings); err != nil {
		ginkgo.Fail(err.Error())
	}
})
