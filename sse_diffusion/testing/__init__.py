"""Testing: conformance tests for engines and predictors, to inherit in the tests of a new one."""
