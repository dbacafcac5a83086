"""What steers a crystal beside the conditions it is asked with: one idea per file."""
