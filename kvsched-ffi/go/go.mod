module kvsched.local/kvsched

go 1.24
