//! Who may do what with a translated address.

use core::fmt;

use kernmem_base::{Access, Privilege};

/// A set of accesses, each by user or kernel mode.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Rights(u8);

impl Rights {
    /// Nobody may do anything.
    pub const NONE: Self = Self(0);

    /// Everybody may do everything.
    pub const ALL: Self = Self(0b11_1111);

    /// Writes of either mode.
    pub const WRITES: Self = Self::NONE.with(Access::Write, Privilege::User).with(Access::Write, Privilege::Kernel);

    const fn bit(access: Access, privilege: Privilege) -> u8 {
        let access = match access {
            Access::Read => 0,
            Access::Write => 1,
            Access::Execute => 2,
        };
        match privilege {
            Privilege::User => 1 << access,
            Privilege::Kernel => 8 << access,
        }
    }

    /// The same set with one access more.
    #[must_use]
    pub const fn with(self, access: Access, privilege: Privilege) -> Self {
        Self(self.0 | Self::bit(access, privilege))
    }

    /// The same set with one access more, if `yes`.
    #[must_use]
    pub const fn with_if(self, yes: bool, access: Access, privilege: Privilege) -> Self {
        if yes { self.with(access, privilege) } else { self }
    }

    /// What is in this set and not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether the access is in the set.
    #[inline]
    #[must_use]
    pub const fn allow(self, access: Access, privilege: Privilege) -> bool {
        self.0 & Self::bit(access, privilege) != 0
    }
}

impl fmt::Debug for Rights {
    /// `rwx` of user mode, `rwx` of the kernel.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (privilege, name) in [(Privilege::User, "user"), (Privilege::Kernel, " kernel")] {
            write!(f, "{name} ")?;
            for (access, letter) in [(Access::Read, 'r'), (Access::Write, 'w'), (Access::Execute, 'x')] {
                write!(f, "{}", if self.allow(access, privilege) { letter } else { '-' })?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_access_of_each_mode_is_a_member_of_its_own() {
        let one = Rights::NONE.with(Access::Write, Privilege::Kernel);
        let members = [Privilege::User, Privilege::Kernel]
            .into_iter()
            .flat_map(|privilege| [Access::Read, Access::Write, Access::Execute].map(|access| (access, privilege)));
        for (access, privilege) in members {
            let is_it = (access, privilege) == (Access::Write, Privilege::Kernel);
            assert_eq!(one.allow(access, privilege), is_it);
            assert!(Rights::ALL.allow(access, privilege));
        }
        assert_eq!(one.without(Rights::WRITES), Rights::NONE);
    }
}
