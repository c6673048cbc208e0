// Says when robfig/cron, the cron library of Kubernetes' CronJob controller, finds a schedule due.
//
// Each line of standard input is a question in JSON, each line of standard output its answer. The argument is a folder of
// TZif files, the one source of time zones: whoever asks chooses the release of the time zone database.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/robfig/cron/v3"
)

type question struct {
	Expression string `json:"expression"`
	Zone       string `json:"zone"`
	// In seconds since 1970.
	After           []int64 `json:"after"`
	DeadlineSeconds int     `json:"deadline_seconds"`
}

type answer struct {
	// Why the expression is refused.
	Refused string `json:"refused,omitempty"`
	// The first due time after each moment, in seconds since 1970; null where it finds none.
	Next []*int64 `json:"next,omitempty"`
	// It did not return within the deadline.
	Hangs bool `json:"hangs,omitempty"`
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: robfig-cron FOLDER-OF-TZIF-FILES")
	}
	zones := zones{folder: os.Args[1], loaded: map[string]*time.Location{}}
	questions := bufio.NewScanner(os.Stdin)
	answers := json.NewEncoder(os.Stdout)
	for questions.Scan() {
		var question question
		if err := json.Unmarshal(questions.Bytes(), &question); err != nil {
			log.Fatalf("not a question: %v", err)
		}
		location, err := zones.get(question.Zone)
		if err != nil {
			log.Fatal(err)
		}
		if err := answers.Encode(answerInTime(question, location)); err != nil {
			log.Fatal(err)
		}
	}
	if err := questions.Err(); err != nil {
		log.Fatal(err)
	}
}

type zones struct {
	folder string
	loaded map[string]*time.Location
}

// get reads a zone from the folder, and from nowhere else: time.LoadLocation would fall back to the machine's.
func (zones zones) get(name string) (*time.Location, error) {
	if location, ok := zones.loaded[name]; ok {
		return location, nil
	}
	data, err := os.ReadFile(filepath.Join(zones.folder, name))
	if err != nil {
		return nil, err
	}
	location, err := time.LoadLocationFromTZData(name, data)
	if err != nil {
		return nil, fmt.Errorf("time zone %s: %w", name, err)
	}
	zones.loaded[name] = location
	return location, nil
}

func answerInTime(question question, location *time.Location) answer {
	answered := make(chan answer, 1)
	// One that hangs is left behind: it ends with the process.
	go func() { answered <- answerTo(question, location) }()
	select {
	case answer := <-answered:
		return answer
	case <-time.After(time.Duration(question.DeadlineSeconds) * time.Second):
		return answer{Hangs: true}
	}
}

func answerTo(question question, location *time.Location) (result answer) {
	// The library panics on "TZ=" without a space after it.
	defer func() {
		if problem := recover(); problem != nil {
			result = answer{Refused: fmt.Sprintf("panic: %v", problem)}
		}
	}()
	schedule, err := cron.ParseStandard(question.Expression)
	if err != nil {
		return answer{Refused: err.Error()}
	}
	for _, after := range question.After {
		var found *int64
		if next := schedule.Next(time.Unix(after, 0).In(location)); !next.IsZero() {
			seconds := next.Unix()
			found = &seconds
		}
		result.Next = append(result.Next, found)
	}
	return result
}
