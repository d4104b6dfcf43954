package suppress_test

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"postern.dev/postern/internal/suppress"
)

// TestCrash plays random acts on a list whose disk forgets what was not synced, loses
// power between acts, and holds what is left against a model.
func TestCrash(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { crash(t, rand.New(rand.NewPCG(seed, 1))) })
	}
}

func crash(t *testing.T, random *rand.Rand) {
	now, key := day, filepath.Join(t.TempDir(), "key")
	fs := vfs.NewCrashableMem()
	s := list(t, &now, suppress.Options{FS: fs, Key: key})
	model := map[string]bool{}
	pos := uint64(0)
	for range 150 {
		customer, i := []string{"", "acme", "globex"}[random.IntN(3)], random.IntN(30)
		address := addressOf(i)
		name := customer + " " + address.String()
		e := suppress.Entry{Customer: customer, Address: address.String()}
		var err error
		switch random.IntN(7) {
		case 0:
			err = s.Add(e)
			model[name] = true
		case 1:
			_, err = s.AddNew(e)
			model[name] = true
		case 2:
			_, err = s.Remove(customer, address)
			delete(model, name)
		case 3:
			pos += 1 + random.Uint64N(3)
			_, err = s.Follow(pos, []suppress.Entry{e})
			model[name] = true
		case 4:
			_, err = s.Follow(pos-random.Uint64N(pos+1), []suppress.Entry{e}) // again what was followed: nothing
		case 5:
			_, err = s.Import(t.Context(), strings.NewReader(address.String()+"\nrubbish\n"), suppress.ImportOptions{Customer: customer})
			model[name] = true
		case 6:
			left := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: random.IntN(100), RNG: random})
			_ = s.Close()
			fs = left
			s = list(t, &now, suppress.Options{FS: fs, Key: key})
			compare(t, s, model)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	compare(t, s, model)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func compare(t *testing.T, s *suppress.Store, model map[string]bool) {
	t.Helper()
	got := map[string]bool{}
	if err := s.Walk(t.Context(), suppress.Query{All: true}, func(e *suppress.Entry) (bool, error) {
		got[e.Customer+" "+e.Address] = true
		return true, nil
	}); err != nil {
		t.Fatal(err)
	}
	for name := range model {
		if !got[name] {
			t.Fatalf("%s is lost", name)
		}
	}
	for name := range got {
		if !model[name] {
			t.Fatalf("%s is back", name)
		}
	}
}

// TestKill kills a process with SIGKILL while it adds; everything that it has
// acknowledged is there.
func TestKill(t *testing.T) {
	if dir := os.Getenv("POSTERN_SUPPRESS_CHILD"); dir != "" {
		child(dir)
		return
	}
	dir := t.TempDir()
	for round := range 3 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKill$")
		cmd.Env = append(os.Environ(), "POSTERN_SUPPRESS_CHILD="+dir, fmt.Sprintf("POSTERN_SUPPRESS_ROUND=%d", round))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var told []string
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if a, ok := strings.CutPrefix(lines.Text(), "added "); ok {
				told = append(told, a)
			}
			if len(told) == 20 {
				_ = cmd.Process.Kill()
			}
		}
		_ = cmd.Wait()
		if len(told) < 20 {
			t.Fatalf("only %d were added", len(told))
		}
		s, err := suppress.Open(filepath.Join(dir, "list"), suppress.Options{Key: filepath.Join(dir, "key")})
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range told {
			if find(t, s, "acme", a) == "" {
				t.Errorf("round %d: %s was acknowledged and is lost", round, a)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// child adds until it is killed.
func child(dir string) {
	s, err := suppress.Open(filepath.Join(dir, "list"), suppress.Options{Key: filepath.Join(dir, "key")})
	if err != nil {
		fmt.Println(err)
		return
	}
	for i := range 100_000 {
		address := fmt.Sprintf("r%s.%d@example.com", os.Getenv("POSTERN_SUPPRESS_ROUND"), i)
		if err := s.Add(suppress.Entry{Customer: "acme", Address: address}); err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println("added " + address)
	}
}
