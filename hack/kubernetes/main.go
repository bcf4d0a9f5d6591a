// Command kubernetes holds the Kubernetes programs that the tests run, in one
// binary: most of their code is shared, so one link costs little more than the
// largest of them. It acts as the program whose name it is called by, through a
// symlink; the build script beside it makes the symlinks from the names it prints
// when called by its own name.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

// program is one entry point. run returns the exit status.
type program struct {
	name string
	run  func() int
}

var programs = []program{
	{"kube-apiserver", server(apiserver.NewAPIServerCommand)},
	{"kube-controller-manager", server(controllers.NewControllerManagerCommand)},
	{"kube-proxy", server(proxy.NewProxyCommand)},
	{"kube-scheduler", server(func() *cobra.Command { return scheduler.NewSchedulerCommand() })},
	{"kubectl", runKubectl},
	{"kubelet", server(func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) })},
}

func main() {
	called := filepath.Base(os.Args[0])
	if i := slices.IndexFunc(programs, func(p program) bool { return p.name == called }); i >= 0 {
		os.Exit(programs[i].run())
	}
	for _, p := range programs {
		fmt.Println(p.name)
	}
}

// server runs a component whose constructor builds its command line.
func server(command func() *cobra.Command) func() int {
	return func() int { return cli.Run(command()) }
}

// runKubectl leaves the wording of errors and the exit status to kubectl.
func runKubectl() int {
	if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
		kubectlutil.CheckErr(err)
	}
	return 0
}
