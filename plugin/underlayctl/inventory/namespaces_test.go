package inventory

import (
	"bufio"
	"os/exec"
	"slices"
	"syscall"
	"testing"
)

// Only a process of root in the node's own PID namespace can be a runtime's plugin: one of a pod, or of a user, says what it likes.
func TestTrust13RunningPlugin(t *testing.T) {
	tests := []struct {
		name string
		attr syscall.SysProcAttr
		want bool
	}{
		{"of the node", syscall.SysProcAttr{}, true},
		{"in a mount namespace, as Multus has", syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}, true},
		{"of a pod", syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}, false},
		{"of a user", syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			id := "trust13-" + t.Name()
			cmd := exec.Command("/bin/sh", "-c", "echo; read end")
			cmd.Env, cmd.SysProcAttr = []string{"CNI_CONTAINERID=" + id, "CNI_IFNAME=eth0"}, &test.attr
			end, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = end.Close(); _ = cmd.Wait() }()
			if _, err := bufio.NewReader(out).ReadString('\n'); err != nil { // its environment is there
				t.Fatal(err)
			}
			if got := slices.ContainsFunc(runningPlugins(), func(p runningPlugin) bool { return p.ContainerID == id }); got != test.want {
				t.Errorf("a running plugin: %v, want %v", got, test.want)
			}
		})
	}
}
