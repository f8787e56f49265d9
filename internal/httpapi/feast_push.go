package httpapi

import (
	"fmt"
	"net/http"

	"github.com/labstack/echo/v4"
)

// feastPush answers POST /push: Feast's data frame, column by column. Whatever
// its "to" says, rows go to both stores: one definition has one history.
func (s *Server) feastPush(c echo.Context) error {
	st := s.borrow()
	defer s.giveBack(st)
	var err error
	var body []byte
	if st.body, body, err = s.feastBody(c, st.body); err != nil {
		return err
	}
	source, frame, err := parseFeastPush(body, s.cfg.MaxEntities)
	if err != nil {
		return err
	}
	revision, err := s.engine.Revision(c.Request().Context())
	if err != nil {
		return err
	}
	src := revision.Project.Source(source)
	if src == nil {
		return &feastError{status: http.StatusUnprocessableEntity, class: "PushSourceNotFoundException", message: fmt.Sprintf("Unable to find push source '%s'.", source)}
	}
	if err := frame.complete(revision.Project, src); err != nil {
		return err
	}
	if _, err := s.pushRows(c, st, source, frame.objects(src)); err != nil {
		return err
	}
	return c.NoContent(http.StatusOK)
}

// parseFeastPush reads the body of POST /push.
func parseFeastPush(body []byte, limit int) (source string, frame *feastFrame, err error) {
	f, err := newFeastForm(body)
	if err != nil {
		return "", nil, err
	}
	if raw := f.required("push_source_name"); raw != nil {
		source = f.text(raw, "push_source_name")
	}
	var columns []feastMember
	if raw := f.required("df"); raw != nil {
		if columns, err = f.dictionary(raw, "df"); err != nil {
			return "", nil, err
		}
	}
	f.boolean("allow_registry_cache") // has no meaning here, but must be one
	to := "online"
	if raw := f.field("to"); raw != nil {
		to = f.text(raw, "to")
	}
	f.boolean("transform_on_write")
	if err := f.mistakes.err(); err != nil {
		return "", nil, err
	}
	if frame, err = newFeastFrame(columns, limit); err != nil {
		return "", nil, err
	}
	if to != "online" && to != "offline" && to != "online_and_offline" {
		return "", nil, feastBad(fmt.Sprintf("%s is not a supported push format. Please specify one of these ['online', 'offline', 'online_and_offline'].", to))
	}
	return source, frame, nil
}
