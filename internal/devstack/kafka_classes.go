package devstack

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// testJVM has Java start fast and use little: one compiler, and a collector that takes no core of its own.
func testJVM(more ...string) []string {
	return append([]string{"-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"}, more...)
}

// kafkaClasses returns the file with the server's classes as Java maps them into memory (JEP 350), and makes it when it
// is not there yet. With it a start takes two thirds of the time. Processes that want it at the same time wait for the
// first. A file that does not fit its Java is passed over by that.
func kafkaClasses(ctx context.Context, cfg KafkaConfig) (string, error) {
	jars, err := kafkaJars(ctx, cfg)
	if err != nil {
		return "", err
	}
	java, err := javaKey()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cfg.cache(), "classes")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make cache for Kafka's classes: %w", err)
	}
	lock, err := waitLock(ctx, dir)
	if err != nil {
		return "", fmt.Errorf("wait for another process that keeps Kafka's classes: %w", err)
	}
	defer lock.Unlock()
	file := filepath.Join(dir, filepath.Base(jars)+"-"+java+".jsa")
	if _, err := os.Stat(file); err == nil {
		return file, nil
	}
	return file, keepClasses(ctx, cfg, file)
}

// javaKey tells one Java from another, also from its next update.
func javaKey() (string, error) {
	path, err := exec.LookPath("java")
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	if err != nil {
		return "", fmt.Errorf("find Java: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("find Java: %w", err)
	}
	sum := sha256.Sum256(fmt.Append(nil, path, info.ModTime()))
	return hex.EncodeToString(sum[:4]), nil
}

// keepClasses starts a server that writes its classes to a file when it ends.
func keepClasses(ctx context.Context, cfg KafkaConfig, file string) error {
	report(cfg.Progress, "keeping Kafka's classes for faster starts (once)")
	made := file + ".new"
	k, err := StartKafka(ctx, KafkaConfig{JVM: testJVM("-Xmx256m", "-XX:ArchiveClassesAtExit="+made), Version: cfg.Version, CacheDir: cfg.CacheDir})
	if err != nil {
		return err
	}
	ended := k.process().stop(ctx, syscall.SIGTERM) // Stop would kill it
	if err := errors.Join(ended, k.Stop(ctx)); err != nil {
		return err
	}
	err = os.Rename(made, file)
	if errors.Is(err, fs.ErrNotExist) { // a Java that cannot; nobody is to try again
		err = os.WriteFile(file, nil, 0o644)
	}
	return wrap(err, "keep Kafka's classes")
}
