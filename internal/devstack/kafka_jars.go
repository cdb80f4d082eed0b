package devstack

import (
	"cmp"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

//go:embed kafka/pom.xml
var kafkaPom string

// pomOf is what Maven fetches a Kafka by; an empty version is that of the file.
func pomOf(version string) string {
	const property = "<kafka.version>"
	before, after, _ := strings.Cut(kafkaPom, property)
	its, after, _ := strings.Cut(after, "<")
	return before + property + cmp.Or(version, its) + "<" + after
}

// javaVersion finds the major version in `openjdk version "17.0.15" 2025-04-15`.
var javaVersion = regexp.MustCompile(`version "(\d+)`)

// HaveKafka returns nil when this machine can run StartKafka: Java 17 or newer, and the jars fetched already or
// Maven to fetch them. The error says what is missing.
func HaveKafka(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "java", "-version").CombinedOutput()
	if err != nil {
		return fmt.Errorf("no Java (%w); install Java %d or newer", err, oldestJava)
	}
	m := javaVersion.FindSubmatch(out)
	if m == nil {
		return fmt.Errorf("java -version says %q; install Java %d or newer", out, oldestJava)
	}
	if v, _ := strconv.Atoi(string(m[1])); v < oldestJava {
		return fmt.Errorf("found Java %d; install Java %d or newer", v, oldestJava)
	}
	if _, err := os.Stat(jarHome(filepath.Join(CacheDir(), "kafka"), pomOf(""))); err == nil {
		return nil
	}
	if _, err := exec.LookPath("mvn"); err != nil {
		return errors.New("no Maven to fetch Kafka with; install Maven (mvn)")
	}
	return nil
}

// jarHome is where the jars of a pom lie below dir.
func jarHome(dir, pom string) string {
	sum := sha256.Sum256([]byte(pom))
	return filepath.Join(dir, "jars-"+hex.EncodeToString(sum[:4]))
}

// kafkaJars returns the directory with the server's jars, letting Maven fetch them when they are not there yet.
// Processes that want them at the same time wait for the first; they appear by one rename.
func kafkaJars(ctx context.Context, cfg KafkaConfig) (string, error) {
	dir, wanted := cfg.cache(), pomOf(cfg.Version)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make cache for Kafka: %w", err)
	}
	lock, err := waitLock(ctx, dir)
	if err != nil {
		return "", fmt.Errorf("wait for another process that fetches Kafka: %w", err)
	}
	defer lock.Unlock()
	home := jarHome(dir, wanted)
	if _, err := os.Stat(home); err == nil {
		return home, nil
	}
	if err := HaveKafka(ctx); err != nil {
		return "", err
	}
	report(cfg.Progress, "fetching Apache Kafka with Maven (about 60 MB, once)")
	tmp, err := os.MkdirTemp(dir, "fetch-")
	if err != nil {
		return "", fmt.Errorf("make cache for Kafka: %w", err)
	}
	defer os.RemoveAll(tmp)
	pom, jars := filepath.Join(tmp, "pom.xml"), filepath.Join(tmp, "jars")
	if err := os.WriteFile(pom, []byte(wanted), 0o600); err != nil {
		return "", fmt.Errorf("write pom.xml: %w", err)
	}
	cmd := exec.Command("mvn", "--quiet", "--batch-mode", "--file", pom,
		"dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory="+jars)
	if err := runOut(ctx, cmd, nil); err != nil {
		return "", fmt.Errorf("fetch Kafka with Maven: %w", err)
	}
	return home, wrap(os.Rename(jars, home), "put fetched Kafka in place")
}
