package engine

import (
	"crypto/sha256"
	_ "embed" // for the list of jars
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// KafkaLibsVariable is the environment variable that names the directory of Kafka's jars, in place of the cache
// that scripts/fetch-kafka fills, or is "none" for doing without.
const KafkaLibsVariable = "HOLDFAST_TEST_KAFKA_LIBS"

//go:embed kafka/jars.sha256
var jarList string

// java is how a class of Kafka is run.
type java struct {
	program   string
	classPath string
}

// findJava finds a JVM and the jars, and compares each with the list. Once is enough for a process.
var findJava = sync.OnceValues(func() (java, error) {
	program, err := exec.LookPath("java")
	if home := os.Getenv("JAVA_HOME"); home != "" {
		program, err = exec.LookPath(filepath.Join(home, "bin", "java"))
	}
	if err != nil {
		return java{}, fmt.Errorf("Kafka: a Java 17 is %w: apt-get install openjdk-17-jre-headless (scripts/setup does)", ErrMissing)
	}
	dir := os.Getenv(KafkaLibsVariable)
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return java{}, err
		}
		dir = filepath.Join(cache, "holdfast", "kafka-3.9.1")
	}
	if _, err := os.Stat(dir); err != nil {
		return java{}, fmt.Errorf("Kafka: in %s it is %w: run scripts/fetch-kafka", dir, ErrMissing)
	}
	var jars []string
	for line := range strings.Lines(jarList) {
		sum, name, ok := strings.Cut(strings.TrimSpace(line), "  ")
		if !ok {
			return java{}, fmt.Errorf("jars.sha256: %q is not a sum and a name", line)
		}
		jar := filepath.Join(dir, name)
		if got, err := digest(jar); err != nil {
			return java{}, fmt.Errorf("Kafka: a jar of check/engine/kafka/jars.sha256: %w; remove the directory and run scripts/fetch-kafka", err)
		} else if got != sum {
			return java{}, fmt.Errorf("Kafka: %s is not the file that check/engine/kafka/jars.sha256 names: remove the directory and run scripts/fetch-kafka", jar)
		}
		jars = append(jars, jar)
	}
	return java{program: program, classPath: strings.Join(jars, ":")}, nil
})

func digest(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // of what was only read
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// command runs a class. The flags are for a start that is soon over, in little memory.
func (j java) command(log4j, class string, args ...string) *exec.Cmd {
	return exec.Command(j.program, append([]string{"-Xms64m", "-Xmx320m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:+ExitOnOutOfMemoryError",
		"-Dlog4j.configuration=file:" + log4j, "-cp", j.classPath, class}, args...)...)
}
