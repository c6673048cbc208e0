module tipstaff.dev/stack/probe

go 1.26
