module tipstaff.dev/stack/pause

go 1.26
